"""MAT-file versions 5 to 7: each variable walked once, its numbers left where they are.

Compressed variables are inflated whole, so that zlib compares their checksum; what is not
compressed has none. The libraries for such files take a changed word at its word, and crash.
"""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from converters.checkpoint import Array
from converters.readers import memory
from converters.readers.mat_v5_elements import Damaged, Elements
from converters.readers.mat_v5_listing import Variable, listing
from converters.readers.mat_value import Struct, Value

__all__ = ["load", "subsystem", "variables"]

_HEADER, _TAG = 128, 8
_COMPRESSED = 15
_SUBSYSTEM = slice(116, 124)  # where the header says that the subsystem is
_PIECE = 1 << 18
# Weights shrink by a tenth or so. What swells more than this, past what is small, is a bomb.
_SWELL, _SMALL = 100, 64 << 20


def variables(path: Path) -> dict[str, str]:
    """Name -> MATLAB class of every variable, in the file's order; no data is read."""
    return {variable.name: variable.kind for variable in _listed(path)}


def load(path: Path, names: Iterable[str]) -> Struct:
    """The named variables. Raises `Damaged`, a ValueError that says at which byte.

    Arrays are read-only views of the mapped file, or of what was inflated from it.
    """
    found = {variable.name: variable for variable in _listed(path)}
    data = memory.mapped(path)
    order = _order(data)
    return {name: _value(data, found[name], order) for name in names if name in found}


def subsystem(path: Path) -> io.BytesIO | None:
    """The contents of class objects alone, inflated and walked, behind the file's header.

    None where the header says that there are none.
    """
    data = memory.mapped(path)
    order = _order(data)
    said = data[_SUBSYSTEM].tobytes()
    start = int.from_bytes(said, "little" if order == "<" else "big")
    if not start or not said.strip(b" "):
        return None
    memory.at("class objects", start)
    if start + _TAG > len(data):
        raise Damaged(f"the subsystem should begin at {start} of {len(data)} bytes", 116)
    kind, size = (int(word) for word in data[start : start + _TAG].view(f"{order}u4"))
    if start + _TAG + size > len(data):
        raise Damaged(f"declares {size} bytes, but the file ends", start)
    part = data[start : start + _TAG + size]
    element = _inflated(part, order, start) if kind == _COMPRESSED else part
    inside, _ = Elements(element, order).matrix(0, len(element))
    if not isinstance(inside, np.ndarray) or inside.dtype != np.uint8 or inside.size < _TAG:
        raise Damaged("the subsystem is no list of bytes", start)
    content = inside.ravel(order="F")
    Elements(content, "<" if content[2:4].tobytes() == b"IM" else ">").matrix(_TAG, len(content))
    return io.BytesIO(data[:_HEADER].tobytes() + element.tobytes())


def _listed(path: Path) -> list[Variable]:
    memory.at("header")
    found = listing(path)
    if twice := [n for n, count in Counter(v.name for v in found).items() if count > 1]:
        raise ValueError(f"holds several variables called {', '.join(twice)}")
    return found


def _order(data: Array) -> str:
    return "<" if data[126:_HEADER].tobytes() == b"IM" else ">"


def _value(data: Array, variable: Variable, order: str) -> Value:
    memory.at("values", variable.start)
    try:
        if int.from_bytes(data[variable.start : variable.start + 4].tobytes(), "little") in (
            _COMPRESSED,
            _COMPRESSED << 24,
        ):
            inside = _inflated(data[variable.start : variable.end], order, variable.start)
            return Elements(inside, order).matrix(0, len(inside))[0]
        return Elements(data, order).matrix(variable.start, variable.end)[0]
    except Damaged as error:
        compressed = error.offset < variable.start
        reason = f"{variable.name}, inflated: {error}" if compressed else error.reason
        raise Damaged(reason, variable.start if compressed else error.offset) from error


def _inflated(part: Array, order: str, offset: int) -> Array:
    """What a compressed element at `offset` holds, its tag included; its checksum is compared."""
    stream, source = zlib.decompressobj(), part[_TAG:].data
    try:
        head = stream.decompress(source[:_PIECE], _TAG)
        if len(head) < _TAG:
            raise Damaged("its compressed bytes end at once", offset)
        size = _TAG + int(np.frombuffer(head, f"{order}u4")[1])
        if size > max(_SMALL, _SWELL * len(source)):
            raise Damaged(f"{len(source)} bytes would swell to {size}", offset)
        made = memory.empty(size)
        made[:_TAG] = np.frombuffer(head, np.uint8)
        filled, read = _TAG, min(_PIECE, len(source))
        waiting: bytes | memoryview = stream.unconsumed_tail
        while not stream.eof:
            if not len(waiting):
                if read >= len(source):
                    raise Damaged("its compressed bytes are cut off", offset)
                waiting = source[read : read + _PIECE]
                read += len(waiting)
            piece = stream.decompress(waiting, size - filled + 1)
            waiting = stream.unconsumed_tail
            if filled + len(piece) > size:
                raise Damaged(f"its compressed bytes hold more than the {size} declared", offset)
            made[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
    except zlib.error as error:
        raise Damaged(f"its compressed bytes are damaged ({error})", offset) from error
    if filled < size:
        raise Damaged(f"its compressed bytes hold {filled} of {size} declared", offset)
    made.flags.writeable = False
    return made
