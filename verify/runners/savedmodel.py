"""Runs TensorFlow SavedModels, a layer at a time.

A signature's functions are inlined into one graph, whose variables stay the model's own; a layer
is what that graph, pruned, computes from the tensors that the layer reads. `deployed` calls the
signature that users call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import convert_to_constants

from converters.errors import MappingError, ReadError
from verify.capture import Array
from verify.names.canonical import IMAGE, KNOWN, Place, canonical_layer
from verify.names.given import Names, check
from verify.names.savedmodel import DESCRIPTOR, LAYERS, SERVING
from verify.names.tf_operations import REFUSED, SAVING
from verify.names.weights import KERAS, by_name
from verify.runners import NOTES
from verify.runners.layered import Images, Layered, Step, Whole, in_order, own_named
from verify.runners.tf_values import computed, images_of, readers, refuse, value_names

__all__ = ["open", "open_all"]

_FILE = "saved_model.pb"


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open a SavedModel's folder.

    Layers are found by `names` (canonical name -> tensor of the serving signature's inlined
    graph), else by the signature `layers`, else by outputs of a layer's name. Raises `ReadError`
    for a folder that is none or must not be run, `MappingError` for names that it lacks.
    """
    return _opened(path, names)


def open_all(path: Path) -> Layered:
    """Open a folder so that it shows every tensor of real numbers, under its own name.

    Raises `ReadError`, and `ConversionError` where a tensor cannot be shown.
    """
    return _opened(path, {}, own=True)


def _opened(path: Path, names: Names, own: bool = False) -> Layered:
    signatures, stored = _loaded(path)
    serving = signatures.get(SERVING) or next(iter(signatures.values()))
    traced = serving if names else signatures.get(LAYERS, serving)
    inlined = _inlined(path, traced)
    check(names, {**value_names(inlined.graph), **stored}, path)
    places = {name: place for name, place in names.items() if place.tensor not in stored}
    if not places:
        given = path, inlined.graph, traced
        places = _values(*given) if own else _outputs(*given, LAYERS in signatures)
    takes, images = _inputs(path, traced)
    places |= images
    reads = readers(path, inlined.graph, places, images)
    return Layered(
        kind="savedmodel",
        path=path,
        reads=reads,
        takes=takes,
        step=_step(inlined, places, reads),
        stored=lambda: by_name({n: v.numpy() for n, v in stored.items()}, KERAS, names),
        whole=_whole(path, serving, in_order(path, reads)),
        axes={layer: place.axes for layer, place in places.items()},
        notes=NOTES,
    )


def _loaded(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's signatures and variables by name, once its operations have been looked at."""
    try:
        proto = SavedModel.FromString((path / _FILE).read_bytes())
    except (OSError, DecodeError) as error:
        raise ReadError(path, f"is not a SavedModel: {_FILE}: {error}") from error
    if not proto.meta_graphs:
        raise ReadError(path, f"is not a SavedModel: {_FILE} holds no graph")
    for meta in proto.meta_graphs:
        refuse(path, meta.graph_def, REFUSED)
    try:
        model = tf.saved_model.load(str(path))
        signatures = dict(model.signatures)
    except (OSError, ValueError, KeyError, AttributeError, tf.errors.OpError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ReadError(path, f"cannot be loaded: {first}") from error
    if not signatures:
        raise ReadError(path, "has no signature to call")
    # A function holds its variables weakly, the model ends here: they are to be kept.
    return signatures, _variables(signatures)


def _specs(path: Path, signature: Any) -> dict[str, Any]:
    """What TensorFlow says of a signature's inputs, by their names, `image` where there is one."""
    inputs: dict[str, Any] = signature.structured_input_signature[1]
    if not inputs:
        raise ReadError(path, "has no signature of images: it has no input")
    return {IMAGE: next(iter(inputs.values()))} if len(inputs) == 1 else dict(inputs)


def _inputs(path: Path, signature: Any) -> tuple[Images | dict[str, Images], dict[str, Place]]:
    """What every input takes and where it is."""
    specs = _specs(path, signature)
    # TensorFlow flattens a table of inputs in the order of its keys; captures come behind.
    tensors = dict(zip(sorted(specs), signature.inputs, strict=False))
    found = {name: images_of(spec.shape, spec.dtype) for name, spec in specs.items()}
    places = {name: Place(tensors[name].name, axes) for name, (axes, _) in found.items()}
    takes = {name: takes for name, (_, takes) in found.items()}
    return takes.get(IMAGE, takes), places


def _inlined(path: Path, signature: Any) -> Any:
    """A signature as one graph, wrapped so that it can be pruned to any part of itself."""
    # TensorFlow has no public function for it; frozen, the weights would be in it eight times.
    graph_def = convert_to_constants._run_inline_graph_optimization(signature, False, True)
    refuse(path, graph_def, REFUSED | SAVING)

    def imported() -> None:
        graph = tf.compat.v1.get_default_graph()
        captured = {
            inside.name: graph.capture(outside) for outside, inside in signature.graph.captures
        }
        tf.import_graph_def(graph_def, name="", input_map=captured)

    return tf.compat.v1.wrap_function(imported, [])


def _variables(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that the signatures read; one that only another has is named after it."""
    found: dict[str, Any] = {}
    for signature, function in signatures.items():
        for variable in function.variables:
            name = variable.name.removesuffix(":0")
            if found.setdefault(name, variable).handle is not variable.handle:
                found[f"{signature}: {name}"] = variable
    return found


def _outputs(path: Path, graph: Any, signature: Any, all_layers: bool = False) -> dict[str, Place]:
    """The outputs that are layers, by the layers' names; of the signature `layers` all are."""
    tensors = _tensors(graph, signature)
    if not all_layers and not KNOWN & tensors.keys():
        raise MappingError(
            [f"(a layer, in {path})"],
            advice=f"Its outputs are {', '.join(tensors)}: give a table of names.",
        )
    return {layer: Place(tensor) for layer, tensor in tensors.items()}


def _values(path: Path, graph: Any, signature: Any) -> dict[str, Place]:
    """The same, if there are any, and all other tensors by their own names."""
    tensors = _tensors(graph, signature)
    layers = {n: Place(tensor) for n, tensor in tensors.items() if KNOWN & tensors.keys()}
    values = computed(path, graph, signature.inputs[0].name, list(tensors.values()))
    return own_named(layers, values)


def _tensors(graph: Any, signature: Any) -> dict[str, str]:
    # TensorFlow flattens a table of outputs in the order of its keys.
    outputs = zip(sorted(signature.structured_outputs), signature.outputs, strict=True)
    return {canonical_layer(key): _behind(graph, value.name) for key, value in outputs}


def _behind(graph: Any, value: str) -> str:
    """The tensor that an output passes on."""
    tensor = graph.get_tensor_by_name(value)
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return str(tensor.name)


def _step(inlined: Any, places: Mapping[str, Place], reads: Mapping[str, tuple[str, ...]]) -> Step:
    parts: dict[str, Any] = {}

    def step(layer: str, inputs: Sequence[Array]) -> Array:
        if layer not in parts:
            tensor = inlined.graph.get_tensor_by_name
            feeds = [tensor(places[name].tensor) for name in reads[layer]]
            parts[layer] = feeds, inlined.prune(feeds, tensor(places[layer].tensor))
        feeds, part = parts[layer]
        given = [tf.constant(x, feed.dtype) for x, feed in zip(inputs, feeds, strict=True)]
        return np.asarray(part(*given))

    return step


def _whole(path: Path, serving: Any, layers: Sequence[str]) -> Whole:
    specs = _specs(path, serving)
    keys_of = dict(zip(specs, serving.structured_input_signature[1], strict=True))

    def whole(given: Mapping[str, Array]) -> dict[str, Array]:
        found = serving(
            **{keys_of[n]: tf.constant(given[n], spec.dtype) for n, spec in specs.items()}
        )
        named = {DESCRIPTOR: layers[-1], **{layer: layer for layer in layers}}
        if len(found) == 1:
            named |= dict.fromkeys(found, layers[-1])
        return {named.get(canonical_layer(key), key): found[key].numpy() for key in found}

    return whole
