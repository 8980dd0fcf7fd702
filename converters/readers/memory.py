"""Where the arrays of a reader lie, and what it is at.

By default arrays lie in this process's own memory and in mapped files. A process that reads
for another one puts its own `Place` here, so that what is read need not be copied.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from converters.checkpoint import Array

__all__ = ["Place", "at", "empty", "mapped", "use"]


class Place:
    """Arrays in this process."""

    def mapped(self, path: Path) -> Array:
        """A file's bytes, read-only; nothing is read before it is used. Raises OSError."""
        with path.open("rb") as file:
            if not file.seek(0, 2):
                return np.empty(0, np.uint8)
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

    def empty(self, size: int) -> Array:
        """So many bytes of memory, whose contents are undefined."""
        return np.empty(size, np.uint8)

    def at(self, phase: str, offset: int | None = None) -> None:
        """What the reader is at, for whoever must say it when the process dies."""


_place = Place()


def use(place: Place) -> None:
    """From now on, arrays lie in `place`."""
    global _place
    _place = place


def mapped(path: Path) -> Array:
    """A file's bytes, read-only; nothing is read before it is used. Raises OSError."""
    return _place.mapped(path)


def empty(size: int) -> Array:
    """So many bytes of memory, whose contents are undefined."""
    return _place.empty(size)


def at(phase: str, offset: int | None = None) -> None:
    """Say what the reader is at; `offset` in the file, where that is known."""
    _place.at(phase, offset)
