"""Canonical names in a graph that tf2onnx made, and its weights folded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from converters.errors import ConversionError

__all__ = ["name_values", "split_initializers"]

Array = NDArray[Any]

#: How tf2onnx names a node of its own, such as the transposition of a layer's input.
_INSERTED = re.compile(r"__\d+$")

#: What a transposition between the two image layouts turns an N×H×W×C value into.
_TURNS = {(0, 3, 1, 2): "NCHW", (0, 2, 3, 1): "NHWC"}


def name_values(graph: Any, scopes: Mapping[str, str], layout: str) -> dict[str, str]:
    """Name each layer's output after the layer, and everything inside after it too.

    `scopes` maps a TensorFlow scope to the source's layer name. Returns how
    each layer's value lies in memory, `NHWC` or `NCHW` (of no meaning behind
    the trunk). Raises `ConversionError` if a layer's value is not in the graph.
    """
    owner = {node.name: _owner(node.name, scopes) for node in graph.node}
    outputs = {value.name for value in graph.output}
    last: dict[str, str] = {}
    for node in graph.node:
        if (layer := owner[node.name]) and not _INSERTED.search(node.name):
            last[layer] = node.output[0]
    if missing := [layer for layer in scopes.values() if layer not in last]:
        raise ConversionError(f"the ONNX graph has lost the layers {', '.join(missing)}")
    names = {value: layer for layer, value in last.items() if value not in outputs}
    for node in graph.node:
        for value in node.output:
            if value not in outputs:
                names.setdefault(value, _tidied(value, scopes))
    for index, constant in enumerate(graph.initializer):
        names[constant.name] = f"constant_{index}"
    found = _layouts(graph, layout.upper())
    _apply(graph, names, owner, scopes)
    return {layer: found[last[layer]] for layer in scopes.values()}


def _owner(node_name: str, scopes: Mapping[str, str]) -> str:
    """The layer whose scope, `conv1_1_1` for its second trace, a node stands in."""
    scope = node_name.split("/", 1)[0] if "/" in node_name else ""
    return scopes.get(scope) or scopes.get(re.sub(r"_\d+$", "", scope), "")


def _tidied(name: str, scopes: Mapping[str, str]) -> str:
    """`vlad.3Acore_1/Softmax:0` as `vlad:core/Softmax`."""
    layer = _owner(name, scopes)
    plain = re.sub(r":0$", "", name)
    return f"{layer}/{plain.split('/', 1)[1]}" if layer else plain


def _layouts(graph: Any, layout: str) -> dict[str, str]:
    """How each value lies in memory, followed from the input through the transpositions."""
    found = {"image": layout}
    for node in graph.node:
        known = next((found[name] for name in node.input if name in found), None)
        if known is None:
            continue
        if node.op_type == "Transpose" and known in ("NHWC", "NCHW"):
            turn = tuple(onnx.helper.get_node_attr_value(node, "perm"))
            known = _TURNS.get(turn, known)
        found.update(dict.fromkeys(node.output, known))
    return found


def _apply(
    graph: Any, names: Mapping[str, str], owner: Mapping[str, str], scopes: Mapping[str, str]
) -> None:
    used: dict[str, int] = {}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        base = f"{owner[node.name] or 'net'}/{node.op_type}"
        used[base] = used.get(base, 0) + 1
        node.name = base if used[base] == 1 else f"{base}_{used[base]}"
    for constant in graph.initializer:
        constant.name = names[constant.name]


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
    _drop_unread(graph)
    return {final[name]: values[name] for name in reads}


def _drop_unread(graph: Any) -> None:
    reads = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in reads]
    del graph.initializer[:]
    graph.initializer.extend(kept)


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
