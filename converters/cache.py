"""The folder in which fetched and made files are kept, each checked before it is used."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from converters.catalogue import Progress
from converters.errors import SourceError

__all__ = ["holds", "keep", "locked", "record", "recorded", "sha256"]

_RECORD = "contents.json"
_LOCK = ".lock"
#: What `_replace`, the writers, pip and pooch call what is not whole yet.
_UNFINISHED = re.compile(r"\.(?!lock$).*|tmp\w{8}")


def _silent(name: str, done: int, total: int | None) -> None:
    """Says nothing."""


@contextmanager
def locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Make `folder` and keep other processes out of it meanwhile.

    What a killed process left unfinished there is removed. Raises `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another process at {folder}", 0, None)
        lock.acquire()
    try:
        _clear(folder)
        yield
    finally:
        lock.release()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if not _UNFINISHED.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded(path: Path) -> str | None:
    """The checksum that `record` wrote for a file, in sha256sum's notation.

    Raises `SourceError` where that is damaged: nothing says then what the file should be.
    """
    note = _note(path)
    if not note.is_file():
        return None
    found = re.match(rb"[0-9a-f]{64}(?=\s)", note.read_bytes())
    if found is None:
        raise SourceError(
            f"{note} is damaged: it holds no sha256",
            advice=f"delete it and {path.name}, which is then fetched anew",
        )
    return found[0].decode()


def record(path: Path, digest: str) -> None:
    """Write a file's checksum beside it."""
    _replace(_note(path), f"{digest}  {path.name}\n")


def holds(folder: Path, inputs: str, progress: Progress = _silent) -> bool:
    """Whether the files that `keep` recorded for these inputs are all there, unchanged.

    `progress` is told of a file that is not.
    """
    try:
        contents = json.loads((folder / _RECORD).read_text("utf-8"))
        if contents["inputs"] != inputs or not contents["sha256"]:
            return False
        for name, digest in contents["sha256"].items():
            path = folder / name
            if path.stat().st_size != contents["size"][name] or sha256(path) != digest:
                progress(f"{path} is damaged, it is made again", 0, None)
                return False
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False  # to be made again
    return True


def keep(folder: Path, inputs: str, files: Iterable[Path]) -> None:
    """Record the files that were made out of `inputs`."""
    kept = list(files)
    contents = {
        "inputs": inputs,
        "sha256": {file.name: sha256(file) for file in kept},
        "size": {file.name: file.stat().st_size for file in kept},
    }
    _replace(folder / _RECORD, json.dumps(contents, indent=2))


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
