"""Opens an ONNX file: the graph without its weights, and the weights as arrays.

So no weight is held or copied again for the many small graphs that a comparison runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from converters.errors import ReadError
from verify.capture import Array
from verify.runners.onnx_scan import scan

__all__ = ["Opened", "read"]

#: Below this many bytes a constant stays in the graph: shape inference reads shapes and axes.
_SMALL = 256
#: No graph has more bytes without its weights, nor more nodes.
_LARGEST, _NODES = 512 << 20, 200_000
#: Whose operators ONNX Runtime has; ours are all of the first.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_ADVICE = (
    "Weights beside an ONNX file must be regular files in its own folder: save it again, "
    "in one file, with onnx.save."
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file's model, its larger initializers only declared, and all initializers' values.

    apart  names of the initializers whose values are not in `model`.
    """

    model: Any
    initializers: dict[str, Array]
    apart: frozenset[str]


def read(path: Path) -> Opened:
    """Read a model. Raises `ReadError` for a file that is none, and for weights kept elsewhere
    than in plain files of the same folder.
    """
    try:
        message, spans = scan(path, _SMALL)
        if len(message) > _LARGEST:
            raise ValueError(f"its graph has {len(message)} bytes without its weights")
        model = onnx.ModelProto.FromString(message)
    except (OSError, DecodeError, ValueError) as error:
        raise ReadError(path, f"cannot be read as ONNX: {error}") from error
    if not model.graph.node:
        raise ReadError(path, "is not an ONNX model: it has no graph")
    _refuse_hidden(path, model)
    _refuse_unknown(path, model)
    values: dict[str, Array] = {}
    apart = set()
    for tensor, span in zip(model.graph.initializer, spans, strict=True):
        values[tensor.name] = _values(path, tensor, span)
        if values[tensor.name].nbytes >= _SMALL:
            _empty(tensor)
            apart.add(tensor.name)
        elif tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    return Opened(model, values, frozenset(apart))


def _values(path: Path, tensor: Any, span: tuple[int, int] | None) -> Array:
    try:
        if span:
            return _mapped(path, tensor, *span)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return _external(path, tensor)
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise ReadError(path, f"{tensor.name[:80]}: its values do not fit it: {error}") from error


def _mapped(path: Path, tensor: Any, offset: int, length: int) -> Array:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    count = prod(tensor.dims)
    if dtype.kind not in "biuf":  # packed or foreign to NumPy: ONNX's own function knows them
        tensor.raw_data = np.memmap(path, np.uint8, "r", offset, length).tobytes()
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    if length != count * dtype.itemsize:
        raise ValueError(f"{length} bytes for {count} of {dtype.itemsize}")
    return np.memmap(path, dtype.newbyteorder("<"), "r", offset, tuple(tensor.dims))


def _external(path: Path, tensor: Any) -> Array:
    """Map the values; each fact that the file states is held against the folder."""
    stated = {entry.key: entry.value for entry in tensor.external_data}
    location = stated.get("location", "")
    parts = PurePosixPath(location).parts
    file = path.parent / location
    if (
        not parts
        or ".." in parts
        or PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).anchor
        or "\\" in location
        or not file.is_file()
        or file.resolve() != (path.parent.resolve() / location)
    ):
        raise ReadError(path, f"{tensor.name} lies in {location!r}; refused", advice=_ADVICE)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    count, offset = prod(tensor.dims), int(stated.get("offset", 0))
    length = int(stated.get("length", count * dtype.itemsize))
    if length != count * dtype.itemsize or not 0 <= offset <= file.stat().st_size - length:
        raise ReadError(path, f"{tensor.name}: {location} does not hold {count} numbers for it")
    if not count:
        return np.empty(tuple(tensor.dims), dtype)
    return np.memmap(file, dtype, "r", offset, tuple(tensor.dims))


def _empty(tensor: Any) -> None:
    """Leave a tensor's name, type and shape."""
    declared = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    declared.data_location = onnx.TensorProto.EXTERNAL
    declared.external_data.add(key="location", value="kept apart")
    tensor.CopyFrom(declared)


def _refuse_hidden(path: Path, model: Any) -> None:
    """Values elsewhere, of tensors other than the graph's own initializers, are not looked for."""
    for graph in _graphs(model):
        own = [] if graph is model.graph else list(getattr(graph, "initializer", ()))
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        tensors = own + [
            t for a in attributes for t in (*([a.t] if a.HasField("t") else []), *a.tensors)
        ]
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                name = tensor.name or "a constant"
                raise ReadError(path, f"{name} lies outside the file; refused", advice=_ADVICE)


def _refuse_unknown(path: Path, model: Any) -> None:
    """Operators that are neither the runtime's nor a function of the file's own."""
    own = {(function.domain, function.name) for function in model.functions}
    count = 0
    for graph in _graphs(model):
        count += len(graph.node)
        for node in graph.node:
            if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
                raise ReadError(
                    path,
                    f"{node.name or 'a node'} is a {node.op_type} of {node.domain}, "
                    "which ONNX Runtime does not have",
                    advice="An operator of one's own needs a library: it is not loaded.",
                )
    if count > _NODES:
        raise ReadError(path, f"has {count} nodes, more than the {_NODES} that are read")


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, those inside its nodes, and the bodies of the file's own functions."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
