"""A folder that is built beside its place and exchanged with it in one step.

Whatever happens on the way, under the final name stands the old folder or the
new one, whole.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from converters.errors import EnvironmentFailure

__all__ = ["flush", "replacing"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` when the block ends well.

    Holds a lock, so that a second process waits for the first. After an error,
    and at the next start after a kill, nothing of the folder is left. Raises
    `EnvironmentFailure` where the disk refuses.
    """
    retired = target.with_name(f".{target.name}.retired")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            _recover(target, retired)
            # A name of its own: a process that outlives a killed run must not write into ours.
            building = Path(tempfile.mkdtemp(prefix=f".{target.name}.building-", dir=target.parent))
            building.chmod(0o755)
            try:
                yield building
                flush(building)
                _exchange(building, target, retired)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise _failure(target, error) from error


def _recover(target: Path, retired: Path) -> None:
    """Undo what a killed run left: a retired folder without its successor comes back."""
    if retired.exists():
        if target.exists():
            shutil.rmtree(retired)
        else:
            retired.rename(target)
    for building in target.parent.glob(f".{glob.escape(target.name)}.building-*"):
        shutil.rmtree(building)


def _exchange(building: Path, target: Path, retired: Path) -> None:
    """Put `building` under the name of `target`; the old folder goes."""
    if not target.exists():
        building.rename(target)
    elif not _swap(building, target):
        target.rename(retired)
        building.rename(target)
        shutil.rmtree(retired)
    _flush_folder(target.parent)


def _swap(first: Path, second: Path) -> bool:
    """Exchange two names at once (renameat2, Linux); False where that cannot be done."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = (os.fsencode(first), os.fsencode(second))
    result = renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    return bool(result == 0)


def flush(path: Path) -> None:
    """Force a file, or the files in a folder, to the disk; it costs nothing where they are."""
    for each in (path, *path.rglob("*")):
        if each.is_file():
            with each.open("rb") as file:
                os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_ADVICE = {
    errno.ENOSPC: "free some space, or give another --output",
    errno.EACCES: "give an --output that you may write to",
    errno.EROFS: "give an --output that can be written to",
}


def _failure(target: Path, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"{target} cannot be written: {error.strerror or error}",
        advice=_ADVICE.get(error.errno or 0, "nothing was changed there"),
    )
