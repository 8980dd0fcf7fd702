"""Looks into a TensorFlow graph: what a value is made of, and what must not be run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.errors import ConversionError, LayerError, ReadError
from verify.names.canonical import IMAGE, KNOWN, Place, canonical_layer
from verify.names.tf_operations import CONTROL
from verify.runners.layered import Images, sources

__all__ = [
    "called_alike",
    "computed",
    "constants",
    "image_of",
    "images_of",
    "inputs_of",
    "readers",
    "refuse",
    "value_names",
]


def refuse(path: Path, graph_def: Any, operations: Collection[str]) -> None:
    """Raise `ReadError` with the nodes of a GraphDef and its functions that must not be run."""
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    found = dict.fromkeys(f"{node.op} ({node.name})" for node in nodes if node.op in operations)
    if found:
        raise ReadError(
            path,
            f"refused: it holds {', '.join(found)}",
            advice="A graph that reaches for files, Python or other machines is not run.",
        )


def value_names(graph: Any) -> dict[str, None]:
    """Every tensor's name in a graph, `name:0`, in the graph's order."""
    return {t.name: None for operation in graph.get_operations() for t in operation.outputs}


def inputs_of(graph: Any, value: str) -> Sequence[str]:
    """The tensors that a tensor's operation reads."""
    return [tensor.name for tensor in graph.get_tensor_by_name(value).op.inputs]


def readers(
    path: Path, graph: Any, places: Mapping[str, Place], inputs: Collection[str] = (IMAGE,)
) -> dict[str, tuple[str, ...]]:
    """Layer -> the layers that it reads. `places` has the net's inputs among them."""
    named: dict[str, str] = {}
    for layer, place in places.items():
        if place.tensor in named:
            raise LayerError(path, {layer: f"is the same tensor as {named[place.tensor]}"})
        named[place.tensor] = layer
    return {
        layer: sources(place.tensor, named, lambda value: inputs_of(graph, value))
        for layer, place in places.items()
        if layer not in inputs
    }


def image_of(path: Path, graph: Any, places: Mapping[str, Place]) -> tuple[Place, Images]:
    """The placeholder that the layers are computed from, and the images that it takes.

    `places` may say itself which placeholder `image` is. Raises `ConversionError` where they
    come from none or from several.
    """
    reached = _reached(graph, [place.tensor for place in places.values()])
    found = [
        op.outputs[0]
        for op in graph.get_operations()
        if op.type == "Placeholder" and op.outputs[0].name in reached
    ]
    if IMAGE in places:
        found = [tensor for tensor in found if tensor.name == places[IMAGE].tensor]
    if len(found) != 1:
        listing = ", ".join(tensor.name for tensor in found) or "none"
        raise ConversionError(f"{path}: does not have one image input; placeholders: {listing}")
    axes, takes = images_of(found[0].shape, found[0].dtype)
    return Place(found[0].name, axes), takes


def images_of(shape: Any, dtype: Any) -> tuple[str, Images]:
    """How a TensorFlow input lies, and what it takes."""
    takes, axes = Images.lying(shape.as_list() if shape.rank == 4 else None, dtype.name)
    return axes, takes


def computed(path: Path, graph: Any, image: str, outputs: Sequence[str] = ()) -> list[str]:
    """The tensors of real numbers that come from `image`, and that `outputs` (if any) come from.

    Raises `ConversionError` where TensorFlow 1's control flow is among them: a branch that is
    not taken, or one turn of a loop, has no value to fetch.
    """
    moved: set[str] = set()
    waiting = [graph.get_tensor_by_name(image)]
    while waiting:
        for op in waiting.pop().consumers():
            if op.type in CONTROL:
                raise ConversionError(
                    f"{path}: {op.name} ({op.type}) chooses or repeats: its values cannot be shown",
                    advice="Freeze the graph for inference, without a switch for training.",
                )
            # What writes into a variable is left alone.
            fresh = [t for t in op.outputs if t.name not in moved and not t.dtype._is_ref_dtype]
            moved.update(tensor.name for tensor in fresh)
            waiting += fresh
    if outputs:
        moved &= _reached(graph, outputs)
    return [n for n in value_names(graph) if n in moved and _shown(graph.get_tensor_by_name(n))]


def _shown(tensor: Any) -> bool:
    graph = tensor.graph
    return bool(
        tensor.dtype.is_floating and graph.is_fetchable(tensor.op) and graph.is_feedable(tensor)
    )


def _reached(graph: Any, values: Sequence[str]) -> set[str]:
    """Every tensor that these are computed from, themselves included."""
    reached: set[str] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if value not in reached:
            reached.add(value)
            waiting += inputs_of(graph, value)
    return reached


def called_alike(graph: Any) -> dict[str, Place]:
    """Operations whose own names are layers' names."""
    return {
        canonical_layer(op.name): Place(op.outputs[0].name)
        for op in graph.get_operations()
        if op.outputs and canonical_layer(op.name) in KNOWN
    }


def constants(graph: Any, places: Mapping[str, Place]) -> dict[str, Any]:
    """The constants that can be weights of these layers: of real numbers, more than one."""
    reached = _reached(graph, [place.tensor for place in places.values()])
    return {
        op.name: op.outputs[0]
        for op in graph.get_operations()
        if op.type == "Const"
        and op.outputs[0].name in reached
        and op.outputs[0].dtype.is_floating
        and (op.outputs[0].shape.num_elements() or 0) > 1
    }
