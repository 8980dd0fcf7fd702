"""Looks into an ONNX graph: who makes a value, how it lies, and the part that makes one layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx

__all__ = ["Graph", "layouts"]

#: Operators whose 4-axis results are N×C×H×W by ONNX's own definition.
_NCHW = {
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"),
    *("LRN", "BatchNormalization", "InstanceNormalization", "DepthToSpace", "SpaceToDepth"),
}
#: Operators that may move axes about, so that nothing is known of the result.
_MOVING = {
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    *("MatMul", "Gemm", "Einsum", "Gather", "Shape"),
}
#: ONNX's numbers for the types of real numbers.
_REAL = {
    *(onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE),
    *(onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16),
}


class Graph:
    """A model's graph by its values.

    types  value -> ONNX's number for the type of its elements, where it is known.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.makers = {
            value: index for index, node in enumerate(self.nodes) for value in node.output if value
        }
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = [v for v in model.graph.input if v.name not in self.initializers]
        self.outputs = [value.name for value in model.graph.output]
        self.types = self._types()

    def inputs_of(self, value: str) -> Sequence[str]:
        """The values that the maker of a value reads, those inside its branches included."""
        if value not in self.makers:
            return ()
        return _read(self.nodes[self.makers[value]])

    def computed(self) -> list[str]:
        """The values of real numbers between the input and the outputs, in the file's order."""
        moved = {value.name for value in self.inputs}
        for node in self.nodes:
            if moved.intersection(_read(node)):
                moved.update(node.output)
        needed: set[str] = set()
        waiting = list(self.outputs)
        while waiting:
            value = waiting.pop()
            if value not in needed:
                needed.add(value)
                waiting += self.inputs_of(value)
        return [v for v in self.makers if v in moved & needed and self.types.get(v) in _REAL]

    def between(self, feeds: Sequence[str], fetch: str) -> Any:
        """A model of the nodes that compute `fetch` from `feeds`."""
        needed: set[int] = set()
        constants: dict[str, None] = {}
        waiting = [fetch]
        while waiting:
            value = waiting.pop()
            if value in self.initializers:
                constants[value] = None
            elif value in self.makers and self.makers[value] not in needed:
                needed.add(self.makers[value])
                waiting += [name for name in self.inputs_of(value) if name not in feeds]
        graph = onnx.helper.make_graph(
            [self.nodes[index] for index in sorted(needed)],
            fetch,
            [onnx.helper.make_tensor_value_info(name, self.type_of(name), None) for name in feeds],
            [onnx.helper.make_empty_tensor_value_info(fetch)],
            [self.initializers[name] for name in constants],
        )
        return onnx.helper.make_model(
            graph,
            opset_imports=self.model.opset_import,
            ir_version=self.model.ir_version,
            functions=self.model.functions,
        )

    def type_of(self, value: str) -> int:
        """The type of a value's elements; float32 where inference does not tell."""
        return self.types.get(value) or int(onnx.TensorProto.FLOAT)

    def _types(self) -> dict[str, int]:
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        known = (*inferred.input, *inferred.value_info, *inferred.output)
        return {value.name: value.type.tensor_type.elem_type for value in known}


def layouts(graph: Graph, image: str) -> dict[str, str]:
    """How image-like values lie, `NCHW` or `NHWC`, followed from the input and the convolutions.

    `image` is how the input lies. A value of which nothing is known is not in the result.
    """
    found = {value.name: image for value in graph.inputs}
    for node in graph.nodes:
        known = "NCHW" if node.op_type in _NCHW else _first(found, node.input)
        if node.op_type == "Transpose" and known:
            perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
            known = "".join(known[axis] for axis in perm) if len(perm) == len(known) else ""
        if known and node.op_type not in _MOVING:
            found.update(dict.fromkeys(node.output, known))
    return found


def _first(found: Mapping[str, str], names: Iterable[str]) -> str:
    return next((found[name] for name in names if name in found), "")


def _read(node: Any) -> list[str]:
    inner = [
        name
        for attribute in node.attribute
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
        for child in graph.node
        for name in _read(child)
    ]
    return [name for name in [*node.input, *inner] if name]
