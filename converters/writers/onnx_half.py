"""Writes `model_fp16.onnx` from `model.onnx`: weights and activations in float16.

Inputs and outputs stay float32. So does every layer that divides, squares, sums or exponentiates:
the sum of squares of a VGG-16's conv5_3 passes 100,000 where float16 ends at 65,504, an epsilon
of 1e-12 is 0 there, and a softmax behind it that drops what is below 6e-8 loses clusters that
`vlad:intranorm` makes unit vectors of. These layers cost little and keep their float32 weights;
all others compute in float16, from weights rounded once, to nearest (IEEE 754).

Layer names and metadata stay, so that each layer can be compared. Ready-made converters clip
small and large weights, and round between two nodes that are both kept in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray

from converters.errors import ConversionError
from converters.writers.onnx_stream import save

__all__ = ["kept_layers", "owner", "rounded", "write"]

Array = NDArray[Any]

#: A layer of these alone computes in float16: sums of products, a choice, a bounded function.
_HALF = frozenset(
    {
        *("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sum", "Concat"),
        *("Relu", "LeakyRelu", "PRelu", "Clip", "MaxPool", "Sigmoid"),
    }
)
#: These compute nothing: what they give is of the type that they read.
_MOVING = frozenset(
    {
        *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Expand"),
        *("Slice", "Split", "Gather", "Pad", "Tile", "DepthToSpace", "SpaceToDepth"),
    }
)
#: These take numbers of any type.
_ANY = frozenset({"Shape", "Size", "Cast"})
#: What `onnx_graph` calls a number that is no weight.
_CONSTANT = "constant_"
#: The owner of a node that stands between layers.
_NONE = "net"
#: Constants of up to so many numbers help to infer shapes.
_SMALL = 64
_FLOAT32 = np.dtype(np.float32)
_GRAPHS = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}


def write(source: Path, path: Path) -> None:
    """Round `source`, an ONNX file of this project, into `path`.

    Raises `ConversionError` for a weight that float16 cannot hold.
    """
    model = onnx.load(source)
    model.metadata_props.add(key="numbers", value="float16")
    save(model, rounded(model), path)


def rounded(model: Any, dtype: DTypeLike = np.float16) -> dict[str, Array]:
    """Rewrite a float32 model in place; its initializers, taken out of it, are returned.

    With a `dtype` of float32 the nodes are the same and nothing is rounded: it must give what it
    gave. Raises `ConversionError` for a weight that float16 cannot hold.
    """
    if any(_GRAPHS & {a.type for a in node.attribute} for node in model.graph.node):
        raise ConversionError("a graph with branches or loops cannot be rounded to float16")
    real = _real(model)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    del model.graph.initializer[:]
    rewriting = _Rewriting(model.graph, real, weights, np.dtype(dtype))
    nodes = list(rewriting.nodes())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    return {name: array for name, array in rewriting.weights.items() if name in read}


def _real(model: Any) -> set[str]:
    """The values of float32 numbers. Large weights are declared, not handed over."""
    light = type(model)(opset_import=model.opset_import, ir_version=model.ir_version)
    graph = light.graph
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        declared = tensor.name, tensor.data_type, tensor.dims
        graph.input.append(onnx.helper.make_tensor_value_info(*declared))
        if np.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
    found = onnx.shape_inference.infer_shapes(light).graph
    return {
        value.name
        for value in (*found.input, *found.value_info, *found.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }


def kept_layers(model: Any) -> set[str]:
    """The layers that stay in float32."""
    return _wide(model.graph, _real(model))


def _wide(graph: Any, real: set[str]) -> set[str]:
    computing = [node for node in graph.node if _computes(node, real)]
    return {owner(node) for node in computing if node.op_type not in _HALF} - {_NONE}


def _computes(node: Any, real: set[str]) -> bool:
    own = node.op_type not in _MOVING | _ANY
    return own and bool(real.intersection(node.input) and real.intersection(node.output))


class _Rewriting:
    """A graph on its way.

    real     the values of real numbers; `halved` those of them that have become float16.
    weights  as they are read: more are added, in `half`, and a cast of a value once, in `cast`.
    """

    def __init__(
        self, graph: Any, real: set[str], weights: dict[str, Array], half: np.dtype[Any]
    ) -> None:
        self.graph = graph
        self.real = real
        self.weights = weights
        self.half = half
        self.halved: set[str] = set()
        self.cast: dict[str, str] = {}
        self.outputs = {value.name for value in graph.output}
        self.wide = _wide(graph, real)

    def nodes(self) -> Iterator[Any]:
        """The nodes anew, each behind the casts that it needs first."""
        for node in self.graph.node:
            half = self._is_half(node)
            for index, name in enumerate(node.input):
                if name in self.real and node.op_type not in _ANY:
                    known = len(self.cast)
                    node.input[index] = self._read(name, half)
                    if len(self.cast) > known:
                        yield _cast(name, node.input[index], self.half if half else _FLOAT32)
            ends = [name for name in node.output if half and name in self.outputs]
            if half:
                self.halved.update(set(node.output) - set(ends))
            node.output[:] = [f"{n}:float16" if n in ends else n for n in node.output]
            yield node
            yield from (_cast(f"{name}:float16", name, _FLOAT32) for name in ends)

    def _is_half(self, node: Any) -> bool:
        if node.op_type in _MOVING:
            return node.input[0] in self.halved
        return node.op_type in _HALF and owner(node) not in self.wide and _computes(node, self.real)

    def _read(self, name: str, half: bool) -> str:
        """What a value is called in the type that is asked for."""
        if name in self.weights:
            return self._rounded(name) if half else name
        if (name in self.halved) == half:
            return name
        return self.cast.setdefault(name, f"{name}:float{16 if half else 32}")

    def _rounded(self, name: str) -> str:
        """A weight keeps its name; a constant, which many may read, gets another."""
        values = self.weights[name]
        constant = name.startswith(_CONSTANT)
        with np.errstate(over="ignore"):
            narrow = values.astype(self.half)
        if not constant and not np.isfinite(narrow).all():
            raise ConversionError(
                f"{name} reaches {np.abs(values).max():.6g}, float16 ends at 65504",
                advice="Use the float32 file.",
            )
        new = f"{name}:float16" if constant else name
        self.weights[new] = narrow
        return new


def owner(node: Any) -> str:
    """The layer that a node belongs to, `net` for what stands between layers."""
    return str(node.name.rpartition("/")[0])


def _cast(source: str, target: str, dtype: np.dtype[Any]) -> Any:
    to = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_node("Cast", [source], [target], f"{target}/Cast", to=to)
