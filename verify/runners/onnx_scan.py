"""Finds the weights inside an ONNX file, so that they can be mapped and need not be loaded.

The file is one protobuf message (`onnx/onnx.proto`): fields in any order, each with its key and,
where it is not a number, its length before it. `onnx.load` holds every weight two to three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from verify.capture import Array

__all__ = ["scan"]

_GRAPH_IN_MODEL, _INITIALIZER_IN_GRAPH, _RAW_DATA_IN_TENSOR = 7, 5, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}

Span = tuple[int, int]


def scan(path: Path, least: int) -> tuple[bytes, list[Span | None]]:
    """The message without its initializers' values, and where in the file those are.

    Values of fewer than `least` bytes stay, their place is None. One span, (offset, bytes), for
    each initializer in the graph's order. Raises `ValueError` for what is no such message.
    """
    if path.stat().st_size == 0:
        raise ValueError("it is empty")
    data = np.memmap(path, np.uint8, "r")
    spans: list[Span | None] = []
    parts = []
    for field, key, start, end in _fields(data, 0, len(data)):
        if field == _GRAPH_IN_MODEL:
            graph = b"".join(_graph(data, start, end, least, spans))
            parts.append(_delimited(field, graph))
        else:
            parts.append(data[key:end].tobytes())
    return b"".join(parts), spans


def _graph(
    data: Array, start: int, end: int, least: int, spans: list[Span | None]
) -> Iterator[bytes]:
    for field, key, inside, after in _fields(data, start, end):
        if field != _INITIALIZER_IN_GRAPH:
            yield data[key:after].tobytes()
            continue
        kept, span = [], None
        for part, begin, value, stop in _fields(data, inside, after):
            if part == _RAW_DATA_IN_TENSOR and stop - value >= least:
                span = value, stop - value
            else:
                kept.append(data[begin:stop].tobytes())
        spans.append(span)
        yield _delimited(field, b"".join(kept))


def _fields(data: Array, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, where its key begins, where its value begins, where that ends) of every field."""
    place = start
    while place < end:
        key, value = _varint(data, place, end)
        kind = key & 7
        if kind == _VARINT:
            _, after = _varint(data, value, end)
        elif kind == _BYTES:
            length, value = _varint(data, value, end)
            after = value + length
        elif kind in _SIZES:
            after = value + _SIZES[kind]
        else:
            raise ValueError(f"a field of kind {kind} at byte {place}")
        if after > end:
            raise ValueError(f"a field at byte {place} ends behind what holds it")
        yield key >> 3, place, value, after
        place = after


def _varint(data: Array, place: int, end: int) -> tuple[int, int]:
    """A number and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = int(data[place])
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError(f"a number that does not end, at byte {place}")


def _delimited(field: int, content: bytes) -> bytes:
    head = bytearray()
    for number in (field << 3 | _BYTES, len(content)):
        while number > 0x7F:
            head.append(number & 0x7F | 0x80)
            number >>= 7
        head.append(number)
    return bytes(head) + content
