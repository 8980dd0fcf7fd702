"""Runs TensorFlow 1 graphs in a session: a checkpoint with its `.meta`, or a frozen `.pb`.

Any tensor of a session can be fetched and any can be fed: a layer is fetched while what it
reads is fed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from converters.errors import MappingError, ReadError
from verify.capture import Array
from verify.names import netvlad_tf
from verify.names.canonical import IMAGE, Place
from verify.names.given import Names, check
from verify.names.tf_operations import REFUSED
from verify.names.weights import KERAS, by_name
from verify.runners import NOTES
from verify.runners.layered import Layered, Step, in_order, own_named
from verify.runners.tf_bundle import find
from verify.runners.tf_values import (
    called_alike,
    computed,
    constants,
    image_of,
    readers,
    refuse,
    value_names,
)

__all__ = ["open", "open_all"]

tf1 = tf.compat.v1


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open a frozen `.pb`, or a checkpoint by its prefix or one of its files.

    Layers are found by `names` (canonical name -> tensor, `scope/conv/BiasAdd:0`), else as
    netvlad_tf_open's own graph has them, else by operations of a layer's name. Raises
    `ReadError` for what is no such graph or must not be run, `MappingError` for names that it
    lacks.
    """
    return _opened(path, names)


def open_all(path: Path) -> Layered:
    """Open a graph so that it shows every tensor of real numbers, under its own name.

    Raises `ReadError`, and `ConversionError` where a tensor cannot be shown.
    """
    return _opened(path, {}, own=True)


def _opened(path: Path, names: Names, own: bool = False) -> Layered:
    with tf.Graph().as_default() as graph:
        session = (_frozen if path.suffix == ".pb" else _restored)(path)
    variables = {v.op.name: v for v in graph.get_collection(tf1.GraphKeys.GLOBAL_VARIABLES)}
    places = (_values if own else _places)(path, graph, names)
    image, takes = image_of(path, graph, places)
    stored = {**variables, **constants(graph, places)}
    check({name: p for name, p in names.items() if name not in places}, stored, path)
    places = {**places, IMAGE: image}
    reads = readers(path, graph, places)
    last = in_order(path, reads)[-1]
    clamped = places.get("preL2") == netvlad_tf.VALUES["preL2"]
    return Layered(
        kind="tf_graph",
        path=path,
        reads=reads,
        takes=takes,
        step=_step(session, places, reads),
        stored=lambda: by_name(session.run(stored), KERAS, {**netvlad_tf.VARIABLES, **names}),
        whole=lambda given: {last: session.run(places[last].tensor, {image.tensor: given[IMAGE]})},
        axes={layer: place.axes for layer, place in places.items()},
        notes=(*NOTES, *([netvlad_tf.CLAMPED] if clamped else [])),
    )


def _restored(path: Path) -> Any:
    """A session of a checkpoint's own graph with its variables."""
    prefix = find(path)
    try:
        meta = tf1.MetaGraphDef.FromString(Path(f"{prefix}.meta").read_bytes())
    except (OSError, DecodeError) as error:
        raise ReadError(f"{prefix}.meta", f"cannot be read: {error}") from error
    refuse(path, meta.graph_def, REFUSED)
    for node in meta.graph_def.node:
        # What TensorFlow 1.11 recorded there later versions contradict; they infer it anew.
        node.attr.pop("_output_shapes", None)
    try:
        tf1.train.import_meta_graph(meta, clear_devices=True)
        session = tf1.Session()
        tf1.train.Saver(tf1.global_variables()).restore(session, prefix)
    except (ValueError, KeyError, tf.errors.OpError) as error:
        first = str(error).strip().splitlines()[0]
        raise ReadError(prefix, f"cannot be opened as a graph: {first}") from error
    return session


def _frozen(path: Path) -> Any:
    try:
        graph_def = tf1.GraphDef.FromString(path.read_bytes())
        refuse(path, graph_def, REFUSED)
        tf.import_graph_def(graph_def, name="")
    except (OSError, DecodeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ReadError(path, f"is not a frozen TensorFlow graph: {first}") from error
    return tf1.Session()


def _places(path: Path, graph: Any, names: Names) -> dict[str, Place]:
    """Where the layers are: by the given names that are tensors', or as the graph has it."""
    available = value_names(graph)
    given = {name: place for name, place in names.items() if ":" in place.tensor}
    check(given, available, path)
    known = {n: place for n, place in netvlad_tf.VALUES.items() if place.tensor in available}
    found = given or known or called_alike(graph)
    if not found.keys() - {IMAGE}:
        raise MappingError(
            [f"(a layer, in {path})"],
            advice="No tensor carries a layer's name: give a table of names.",
        )
    return found


def _values(path: Path, graph: Any, names: Names) -> dict[str, Place]:
    """The layers, if the graph has any that are known, and all other tensors by their own names."""
    try:
        places = _places(path, graph, names)
    except MappingError:
        places = {}
    image, _ = image_of(path, graph, places or {n: Place(n) for n in value_names(graph)})
    return own_named(places, computed(path, graph, image.tensor))


def _step(session: Any, places: Mapping[str, Place], reads: Mapping[str, tuple[str, ...]]) -> Step:
    def step(layer: str, inputs: Sequence[Array]) -> Array:
        fed = [places[name].tensor for name in reads[layer]]
        output: Array = session.run(places[layer].tensor, dict(zip(fed, inputs, strict=True)))
        return output

    return step
