"""The folder in which fetched and made files are kept, each checked before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from converters.catalogue import Progress

__all__ = ["holds", "keep", "locked", "record", "recorded", "sha256"]

_RECORD = "contents.json"


@contextmanager
def locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Make `folder` and keep other processes out of it meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another process at {folder}", 0, None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded(path: Path) -> str | None:
    """The checksum that `record` wrote for a file, in sha256sum's notation."""
    note = _note(path)
    return note.read_text("ascii").split()[0] if note.is_file() else None


def record(path: Path, digest: str) -> None:
    """Write a file's checksum beside it."""
    _replace(_note(path), f"{digest}  {path.name}\n")


def holds(folder: Path, inputs: str) -> bool:
    """Whether the files that `keep` recorded for these inputs are all there, unchanged."""
    try:
        contents = json.loads((folder / _RECORD).read_text("utf-8"))
        return bool(contents["inputs"] == inputs) and all(
            sha256(folder / name) == digest for name, digest in contents["sha256"].items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False  # to be made again


def keep(folder: Path, inputs: str, files: Iterable[Path]) -> None:
    """Record the files that were made out of `inputs`."""
    contents = {"inputs": inputs, "sha256": {file.name: sha256(file) for file in files}}
    _replace(folder / _RECORD, json.dumps(contents, indent=2))


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, "utf-8")
    new.replace(path)
