"""Files from strangers, parsed in a child process: `read`.

The children are forked from one small process (`server`), which is started with the first
file and ends with this one. A child may read its file and nothing else (`walls`); it leaves
what it found in memory that both see (`arena`), so that no array is copied. A crash, a hang
and an overrun of a child are errors here.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import socket
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from converters.checkpoint import Array, Checkpoint
from converters.errors import EnvironmentFailure, ReadError
from converters.plausible import PARAMETERS, check
from converters.sandbox import arena as arenas
from converters.sandbox import wire
from converters.sandbox.connection import Server
from converters.sandbox.files import beside
from converters.sandbox.reading import Reading, believe, believed, believing

__all__ = [
    "PARAMETERS",
    "Reading",
    "Stopped",
    "believe",
    "believed",
    "believing",
    "lacking",
    "read",
    "restart",
]

_SUPPORTED = hasattr(os, "fork") and hasattr(socket, "send_fds")
_OBJECTS = "converters.readers.mat_objects"
_AGAIN = (
    "The file is damaged, or was made to do this: fetch it again and compare its checksum. "
    "If you trust it, --trusted reads it without a sandbox."
)


class Stopped(ReadError):
    """The child that parsed a file died, or had to be stopped.

    phase   what it was at.
    offset  in the file, where that is known.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        reason: str,
        *,
        phase: str = "",
        offset: int | None = None,
    ) -> None:
        self.why, self.phase, self.offset = reason, phase, offset
        place = f", at byte {offset} or after it" if offset is not None else ""
        super().__init__(path, f"{reason} (in: {phase or 'start'}{place})", advice=_AGAIN)

    def __reduce__(self) -> tuple[object, ...]:
        return _stopped, (self.path, self.why, self.phase, self.offset)


def _stopped(path: str, reason: str, phase: str, offset: int | None) -> Stopped:
    return Stopped(path, reason, phase=phase, offset=offset)


def read(path: Path, module: str, reading: Reading | None = None) -> Checkpoint:
    """Let the reader `module` read a file, as far as it is believed here. Arrays are read-only.

    Raises the reader's typed errors, `Stopped` where its process died or took too long or
    too much, `ReadError` or `LayerError` for what no net can have, `ModuleNotFoundError`
    where a library of the reader's is missing.
    """
    reading = believed() if reading is None else reading
    if reading.trusted or not _SUPPORTED:
        checkpoint: Checkpoint = import_module(module).read(path)
    else:
        checkpoint = _parsed(path, module, reading)
    check(checkpoint, reading.parameters)
    return checkpoint


def lacking() -> tuple[str, ...]:
    """What the sandbox could not do on this machine, in words, as far as it was used."""
    if not _SUPPORTED:
        return ("this platform has no sandbox: files are parsed in this process",)
    return tuple(_lacking)


def restart() -> None:
    """End the process that children are forked from; the next file starts another."""
    _server.stop()


_lacking: dict[str, None] = {}
_server = Server()


def _parsed(path: Path, module: str, reading: Reading) -> Checkpoint:
    files, folders = beside(path)
    size = sum(os.path.getsize(name) for name in files)
    half = (reading.memory or _memory(size)) // 2 // mmap.PAGESIZE * mmap.PAGESIZE
    seconds = reading.seconds or 60 + size / 1e7
    # A damaged HDF5 file can send its library round in circles: of that a small file gets less.
    computing = math.ceil(min(seconds, 10 + size / 5e6))
    try:
        arena = arenas.made(max(half, 1 << 20))
    except OSError as error:
        raise EnvironmentFailure(
            f"{path}: there is no room to read it into: {error.strerror}",
            advice="Raise the limits of this process, or read it with --trusted.",
        ) from error
    try:
        job = {
            "path": str(path),
            "folder": os.getcwd(),
            "files": files,
            "folders": folders,
            "module": module,
            "seconds": seconds,
            "computing": computing,
            "memory": half + 2 * size,  # the file itself is mapped, which is no memory
        }
        end = _server.do(job, arena)
        shared = mmap.mmap(arena, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(arena)
    phase, offset = arenas.phase(shared)
    if end["late"]:
        raise Stopped(path, f"took longer than {seconds:g} seconds", phase=phase, offset=offset)
    if end["status"] == -signal.SIGXCPU:
        reason = f"took longer than {computing} seconds of computing"
        raise Stopped(path, reason, phase=phase, offset=offset)
    try:
        answer = wire.loads(arenas.answer(shared)) if not end["status"] else {}
        if not answer:
            reason = f"its parser died ({_words(end['status'])})"
            raise Stopped(path, reason, phase=phase, offset=offset)
        return _answered(path, answer, files, shared, (phase, offset))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise Stopped(path, f"its parser said what makes no sense: {error}") from error


def _answered(
    path: Path,
    answer: dict[str, Any],
    files: Sequence[str],
    shared: mmap.mmap,
    place: tuple[str, int | None],
) -> Checkpoint:
    _lacking.update(dict.fromkeys(map(str, answer["lacking"])))
    if answer["objects"] is True:
        _server.modules[_OBJECTS] = None  # half a second to import: the server does it once
    if "missing" in answer:
        name = str(answer["missing"])
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    if "error" in answer:
        raise wire.error_from(answer["error"])
    if "fault" in answer:
        kind, words = map(str, answer["fault"])
        needs = "needs more memory than it may have" if kind == "MemoryError" else ""
        reason = needs or f"cannot be parsed: {kind}: {words}"
        raise Stopped(path, reason, phase=place[0], offset=place[1])
    maps: dict[int, Any] = {-1: shared}
    for number, stamp in answer["stamps"]:
        maps[number] = _mapped(path, files[number], stamp)

    def find(place: Any) -> Array:
        found = wire.array(place[1:], maps[place[0]])
        found.flags.writeable = False
        return found

    checkpoint = wire.checkpoint_from(answer["checkpoint"], find)
    given = {os.path.abspath(name) for name in files}
    if strangers := [f for f in checkpoint.origin.files if os.path.abspath(f) not in given]:
        raise ValueError(f"{strangers[0]} was not given to it")
    return checkpoint


def _mapped(path: Path, name: str, stamp: Sequence[int]) -> mmap.mmap:
    with open(name, "rb") as file:
        known = os.fstat(file.fileno())
        if [known.st_size, known.st_mtime_ns] != list(stamp):
            raise Stopped(path, f"{name} was changed while it was read")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _memory(size: int) -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min((2 << 30) + 16 * size, 0.8 * physical))


def _words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"
