"""Writes a ModelProto with its initializers streamed, never all in memory at once.

`onnx.save` needs three times the weights. The file format is protobuf: fields
in any order, each with its length before it (onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["save"]

_GRAPH_IN_MODEL = 7
_INITIALIZER_IN_GRAPH = 5
_RAW_DATA_IN_TENSOR = 9
_CHUNK = 1 << 24


def save(proto: Any, initializers: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write `proto` with `initializers` (name -> array) added to its graph."""
    graph = proto.graph.SerializeToString(deterministic=True)
    heads = {name: _head(name, array) for name, array in initializers.items()}
    sizes = {name: len(head) + initializers[name].nbytes for name, head in heads.items()}
    total = len(graph) + sum(
        size + len(_key(_INITIALIZER_IN_GRAPH, size)) for size in sizes.values()
    )
    rest = type(proto)()
    rest.CopyFrom(proto)
    rest.ClearField("graph")
    with open(path, "wb") as file:
        file.write(rest.SerializeToString(deterministic=True))
        file.write(_key(_GRAPH_IN_MODEL, total))
        file.write(graph)
        for name, head in heads.items():
            file.write(_key(_INITIALIZER_IN_GRAPH, sizes[name]))
            file.write(head)
            _stream(initializers[name], file)


def _head(name: str, array: NDArray[Any]) -> bytes:
    """A TensorProto up to the bytes of its values."""
    tensor = onnx.TensorProto(
        name=name,
        dims=array.shape,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
    )
    return bytes(tensor.SerializeToString(deterministic=True)) + _key(
        _RAW_DATA_IN_TENSOR, array.nbytes
    )


def _stream(array: NDArray[Any], file: BinaryIO) -> None:
    """The values in C order, a few rows at a time; little-endian as ONNX has them."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if little.nbytes <= _CHUNK or little.ndim == 0:
        file.write(little.tobytes())
        return
    rows = max(1, _CHUNK * len(little) // little.nbytes)
    for start in range(0, len(little), rows):
        file.write(np.ascontiguousarray(little[start : start + rows]).data)


def _key(field: int, length: int) -> bytes:
    """A protobuf key for length-delimited content, and the length."""
    return _varint(field << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
