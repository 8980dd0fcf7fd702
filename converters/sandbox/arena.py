"""The memory that a parsing child and its parent share.

One file without a name, as large as what may be read. It begins with a page that says where
the answer lies and what the child was at; arrays and the answer follow. The pages that
nobody writes cost nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from converters.checkpoint import Array
from converters.readers.memory import Place

__all__ = ["Arena", "answer", "made", "phase"]

_PAGE, _ALIGNED = 4096, 64
_LAST = 1 << 16  # kept for the answer, which says where memory ended
_HEAD = struct.Struct("<QQ")  # where the answer lies, and its size
_PHASE = slice(_HEAD.size, 512)


def made(size: int) -> int:
    """A file descriptor of a new arena, which can neither grow nor shrink where that can be."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    import fcntl

    arena = os.memfd_create("netvlad-parse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(arena, size)
    fcntl.fcntl(arena, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return arena


def answer(arena: mmap.mmap) -> bytes:
    """What the child left; empty where it left nothing. Raises ValueError for nonsense."""
    start, size = _HEAD.unpack_from(arena)
    if start + size > len(arena):
        raise ValueError(f"an answer of {size} bytes at {start}")
    return arena[start : start + size]


def phase(arena: mmap.mmap) -> tuple[str, int | None]:
    """What the child was at last, and the offset in the file where that is known."""
    words, _, offset = arena[_PHASE].rstrip(b"\0").decode("ascii", "replace").partition("\0")
    said = "".join(letter for letter in words if letter.isprintable())
    return said or "start", int(offset) if offset.isdecimal() else None


class Arena(Place):
    """The child's side: what readers ask for lies in the arena or in the mapped files.

    files  what may be mapped; an array is told by the number of its file.
    """

    def __init__(self, arena: int, files: list[str]) -> None:
        self._map = mmap.mmap(arena, 0)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._used = _PAGE
        self._files: dict[tuple[int, int], int] = {}
        for number, name in enumerate(files):
            known = os.stat(name)
            self._files[known.st_dev, known.st_ino] = number
        #: Address and size of memory -> the number of its file; -1 is the arena.
        self._regions = [(_address(self._bytes), self._bytes.size, -1)]
        #: Number of a mapped file -> its size and time of change.
        self.stamps: dict[int, tuple[int, int]] = {}

    def mapped(self, path: Path) -> Array:
        found = super().mapped(path)
        known = os.stat(path)
        number = self._files.get((known.st_dev, known.st_ino))
        if number is not None and found.size:
            self._regions.append((_address(found), found.size, number))
            self.stamps[number] = known.st_size, known.st_mtime_ns
        return found

    def empty(self, size: int) -> Array:
        return self._taken(size, self._bytes.size - _LAST)

    def _taken(self, size: int, most: int) -> Array:
        start = self._used
        end = start + (size + _ALIGNED - 1) // _ALIGNED * _ALIGNED
        if end > most:
            raise MemoryError(f"{end} bytes, where {most} may be used")
        self._used = end
        return self._bytes[start : start + size]

    def at(self, phase: str, offset: int | None = None) -> None:
        words = phase if offset is None else f"{phase}\0{offset}"
        self._map[_PHASE] = words.encode()[: _PHASE.stop - _PHASE.start].ljust(
            _PHASE.stop - _PHASE.start, b"\0"
        )

    def lay(self, array: Array) -> Any:
        """Where an array lies: number of the file, dtype, offset, shape, strides; copied if it
        lies nowhere that the parent can see.
        """
        return self._found(array) or self._found(self._copied(array))

    def answer(self, data: bytes) -> None:
        place = self._taken(len(data), self._bytes.size)
        place[:] = np.frombuffer(data, np.uint8)
        start = _address(place) - _address(self._bytes)
        self._map[: _HEAD.size] = _HEAD.pack(start, len(data))

    def _found(self, array: Array) -> Any:
        if not array.size:
            return -1, array.dtype.str, 0, array.shape, (0,) * array.ndim
        if min(array.strides, default=0) < 0:
            return None
        first = _address(array)
        steps = zip(array.shape, array.strides, strict=True)
        last = first + sum((count - 1) * step for count, step in steps) + array.itemsize
        for start, size, number in self._regions:
            if start <= first and last <= start + size:
                return number, array.dtype.str, first - start, array.shape, array.strides
        return None

    def _copied(self, array: Array) -> Array:
        turned = array.flags.f_contiguous and not array.flags.c_contiguous
        source = array.T if turned else array
        copy = self.empty(array.nbytes).view(array.dtype).reshape(source.shape)
        copy[...] = source
        return copy.T if turned else copy


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
