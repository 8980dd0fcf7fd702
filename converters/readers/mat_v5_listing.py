"""Which variables a MAT-file of version 5 to 7 holds, read from their headers alone.

scipy's `whosmat` fails on a file with a class object among its variables, and
scipy gives all of them the name None. Format: The MathWorks, "MAT-File Format",
level 5; a class object has no dimensions, its name is followed by its system
(`MCOS`) and its class.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Variable", "listing"]

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_OPAQUE, _LOGICAL = 17, 0x200
_START = 1024  # bytes that hold the header of any variable
_KINDS = (
    *("unknown", "cell", "struct", "object", "char", "sparse", "double", "single"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "function"),
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: its MATLAB class, and where its bytes are in the file, tag included."""

    name: str
    kind: str
    is_object: bool
    start: int
    end: int


def listing(path: Path) -> list[Variable]:
    """Every variable in the file's order. Raises ValueError or struct.error if damaged."""
    with path.open("rb") as file:
        return list(_variables(file))


def _variables(file: BinaryIO) -> Iterator[Variable]:
    size = file.seek(0, 2)
    file.seek(_HEADER - 2)
    order = "<" if file.read(2) == b"IM" else ">"
    position = _HEADER
    while position < size:
        file.seek(position)
        element, count = struct.unpack(f"{order}II", file.read(8))
        end = position + 8 + count
        if not count:
            raise ValueError(f"nothing follows byte {position} of {size}")
        start = file.read(min(_START, count))
        if element == _COMPRESSED:
            start = zlib.decompressobj().decompress(start, _START)
            (element,) = struct.unpack_from(f"{order}I", start)
            start = start[8:]
        if element != _MATRIX:
            raise ValueError(f"an element of type {element} where a variable belongs")
        name, kind, is_object = _header(start, order)
        if name:  # the one without a name holds the contents of class objects
            if end > size:
                raise ValueError(f"{name} ends at byte {end} of {size}")
            yield Variable(name, kind, is_object, position, end)
        position = end


def _header(start: bytes, order: str) -> tuple[str, str, bool]:
    """Name, class, and whether it is an object of it."""
    flags, next_one = _element(start, 0, order)
    (word,) = struct.unpack_from(f"{order}I", flags)
    code = word & 0xFF
    if code != _OPAQUE:
        _, next_one = _element(start, next_one, order)  # the dimensions
    name, next_one = _element(start, next_one, order)
    if code == _OPAQUE:
        _, next_one = _element(start, next_one, order)  # the system
        kind = _element(start, next_one, order)[0].decode("latin1")
    else:
        kind = "logical" if word & _LOGICAL else _KINDS[code if code < len(_KINDS) else 0]
    return name.decode("latin1"), kind, code == _OPAQUE


def _element(data: bytes, at: int, order: str) -> tuple[bytes, int]:
    """The bytes of a data element and where the next one begins; four bytes or fewer are packed."""
    (word,) = struct.unpack_from(f"{order}I", data, at)
    if word >> 16:
        return data[at + 4 : at + 4 + (word >> 16)], at + 8
    (count,) = struct.unpack_from(f"{order}I", data, at + 4)
    return data[at + 8 : at + 8 + count], at + 8 + (count + 7) // 8 * 8
