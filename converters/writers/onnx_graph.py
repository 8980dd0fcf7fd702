"""Canonical names in a graph that tf2onnx made, and its weights folded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from converters.errors import ConversionError

__all__ = ["name_values", "split_initializers"]

Array = NDArray[Any]

#: What a transposition between the two image layouts turns an N×H×W×C value into.
_TURNS = {(0, 3, 1, 2): "NCHW", (0, 2, 3, 1): "NHWC"}


def name_values(
    graph: Any,
    scopes: Mapping[str, str],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> dict[str, tuple[str, str]]:
    """Name each layer's output after the layer, and everything inside after it too.

    `scopes` maps a TensorFlow scope to the source's layer name, `inputs` a
    graph's input to how it lies, `outputs` a layer to the graph's output that
    it makes, which keeps its name. Nodes are put into one order, whatever order
    tf2onnx left them in. Returns for each layer the value that is its output,
    and how that lies in memory, `NHWC` or `NCHW` (of no meaning behind the
    trunk). Raises `ConversionError` if a layer's value is not in the graph.
    """
    _sort(graph)
    found = _layouts(graph, inputs)
    owners = [_owner(node.name, scopes) for node in graph.node]
    last: dict[str, str] = {}
    for node, layer in zip(graph.node, owners, strict=True):
        if layer and not _is_inserted(node):
            last[layer] = node.output[0]
    last |= _ends(graph, owners, last, outputs)
    if missing := [layer for layer in scopes.values() if layer not in last]:
        raise ConversionError(f"the ONNX graph has lost the layers {', '.join(missing)}")
    _name_nodes(graph, owners)
    names = {name: name for name in outputs.values()}
    for layer, value in last.items():
        names.setdefault(value, f"{layer}:inner" if layer in outputs.values() else layer)
    for node in graph.node:
        for index, value in enumerate(node.output):
            names.setdefault(value, f"{node.name}:{index}" if index else node.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    return {layer: (names[last[layer]], found[last[layer]]) for layer in scopes.values()}


def _ends(
    graph: Any, owners: Sequence[str], last: Mapping[str, str], outputs: Mapping[str, str]
) -> dict[str, str]:
    """Layers whose value is the graph's output itself: no layer reads it before it is turned."""
    read = {
        name
        for node, owner in zip(graph.node, owners, strict=True)
        if owner and not _is_inserted(node)
        for name in node.input
    }
    return {
        layer: output
        for layer, output in outputs.items()
        if layer not in last or last[layer] not in read
    }


def _sort(graph: Any) -> None:
    """Depth first from the outputs: an order that the graph alone decides."""
    makers = {name: node for node in graph.node for name in node.output}
    order: dict[str, Any] = {}
    stack = [(makers[value.name], False) for value in reversed(graph.output)]
    while stack:
        node, ready = stack.pop()
        if node.output[0] in order:
            continue
        if ready:
            order[node.output[0]] = node
            continue
        stack.append((node, True))
        stack += [(makers[name], False) for name in reversed(node.input) if name in makers]
    nodes = list(order.values())
    del graph.node[:]
    graph.node.extend(nodes)


def _owner(node_name: str, scopes: Mapping[str, str]) -> str:
    """The layer whose scope, `conv1_1_1` for its second trace, a node stands in."""
    scope = node_name.split("/", 1)[0] if "/" in node_name else ""
    return scopes.get(scope) or scopes.get(re.sub(r"_\d+$", "", scope), "")


#: How tf2onnx names a node of its own.
_INSERTED = re.compile(r"__\d+$")
#: Nodes that ONNX defines on N×C×H×W.
_WINDOWS = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"}
)
#: What tf2onnx makes a transposition of.
_TURNING = frozenset({"Transpose", "Reshape", "Shape", "Gather"})


def _is_inserted(node: Any) -> bool:
    """A transposition of tf2onnx's own, named after the layer whose input it turns.

    One of a single channel is a Reshape, and the nodes that find its shape.
    """
    return node.op_type in _TURNING and _INSERTED.search(node.name) is not None


def _layouts(graph: Any, inputs: Mapping[str, str]) -> dict[str, str]:
    """How each value lies in memory, followed from the inputs through what turns it."""
    found = dict(inputs)
    for node in graph.node:
        known = next((found[name] for name in node.input if name in found), None)
        if node.op_type in _WINDOWS:
            known = "NCHW"
        if known is None:
            continue
        if node.op_type == "Transpose":
            known = _TURNS.get(tuple(_attribute(node, "perm")), known)
        elif node.op_type == "Reshape" and _INSERTED.search(node.name):
            known = {"NCHW": "NHWC", "NHWC": "NCHW"}.get(known, known)
        found.update(dict.fromkeys(node.output, known))
    return found


def _name_nodes(graph: Any, owners: Sequence[str]) -> None:
    """`conv1_1/Conv`; the second of a kind in a layer is `…_2`."""
    used: Counter[str] = Counter()
    for node, owner in zip(graph.node, owners, strict=True):
        base = f"{owner or 'net'}/{node.op_type}"
        used[base] += 1
        node.name = base if used[base] == 1 else f"{base}_{used[base]}"


def split_initializers(graph: Any, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Fold what only rearranges a weight into the weight.

    Takes the folded nodes out of the graph and returns the arrays, views where
    that is possible, by the name under which the graph reads them: the
    canonical one, with a suffix `.n` for the parts of a grouped kernel.
    """
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}
    values = dict(weights)
    origin = {name: name for name in weights}
    kept = []
    for node in graph.node:
        fold = _FOLDS.get(node.op_type)
        if fold is None or node.input[0] not in values:
            kept.append(node)
            continue
        parts = fold(node, values[node.input[0]], [constants.get(n) for n in node.input[1:]])
        for index, (name, part) in enumerate(zip(node.output, parts, strict=True)):
            values[name] = part
            stem = origin[node.input[0]]
            origin[name] = f"{stem}.{index}" if len(parts) > 1 else stem
    reads = dict.fromkeys(name for node in kept for name in node.input if name in values)
    final = {name: origin[name] for name in reads}
    if len(set(final.values())) != len(final):
        raise ConversionError(f"weights are read in two forms: {sorted(final.values())}")
    for node in kept:
        node.input[:] = [final.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    _number_constants(graph)
    return {final[name]: values[name] for name in reads}


def _number_constants(graph: Any) -> None:
    """Name the constants in the order in which they are read; equal ones are one.

    tf2onnx leaves them in an order that changes from run to run.
    """
    contents = {}
    for constant in graph.initializer:
        name, constant.name = constant.name, ""
        contents[name] = constant.SerializeToString(deterministic=True)
    numbers: dict[bytes, int] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in contents:
                number = numbers.setdefault(contents[name], len(numbers))
                node.input[index] = f"constant_{number}"
    del graph.initializer[:]
    for content, number in numbers.items():
        constant = onnx.TensorProto.FromString(content)
        constant.name = f"constant_{number}"
        graph.initializer.append(constant)


def _attribute(node: Any, name: str, default: Any = None) -> Any:
    found = [a for a in node.attribute if a.name == name]
    return onnx.helper.get_attribute_value(found[0]) if found else default


def _axes(node: Any, constants: list[Array | None]) -> tuple[int, ...]:
    """The axes of a Squeeze or Unsqueeze: an input since opset 13."""
    axes = constants[0] if constants else _attribute(node, "axes")
    return tuple(int(axis) for axis in np.atleast_1d(axes)) if axes is not None else ()


def _split(node: Any, value: Array, constants: list[Array | None]) -> list[Array]:
    axis = _attribute(node, "axis", 0)
    return np.split(value, len(node.output), axis)


_FOLDS: dict[str, Callable[[Any, Array, list[Array | None]], list[Array]]] = {
    "Transpose": lambda node, value, _: [np.transpose(value, _attribute(node, "perm"))],
    "Reshape": lambda node, value, rest: [np.reshape(value, np.asarray(rest[0]).tolist())],
    "Squeeze": lambda node, value, rest: [np.squeeze(value, _axes(node, rest) or None)],
    "Unsqueeze": lambda node, value, rest: [np.expand_dims(value, _axes(node, rest))],
    "Split": _split,
}
