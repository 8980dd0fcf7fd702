"""Runs ONNX files in ONNX Runtime, a layer at a time with all optimisations off.

The graph between a layer's input values and its output is cut out and run as a model of its
own. `deployed` runs the whole file, fully optimised, as its users do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime

from converters.errors import LayerError, MappingError, ReadError
from verify.capture import Array
from verify.names.canonical import IMAGE, KNOWN, Place, canonical_layer, layer_axes
from verify.names.given import Names, check
from verify.names.onnx import LAYOUTS, NUMBERS, VALUES
from verify.names.weights import ONNX, by_name, called_alike
from verify.runners.layered import Images, Layered, Step, Whole, own_named, sources
from verify.runners.onnx_file import Opened, read
from verify.runners.onnx_graph import Graph, layouts

__all__ = ["open", "open_all"]


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open an ONNX file of one image input.

    Layers are found by `names` (canonical name -> value), else by what a file of this project
    states in its metadata, else by values that carry a layer's name. Raises `ReadError` for a
    file that is none or keeps weights where they do not belong, `MappingError` for names that
    it lacks.
    """
    return _opened(path, names)


def open_all(path: Path) -> Layered:
    """Open a file so that it shows every value of real numbers, under its own name.

    Raises `ReadError`.
    """
    return _opened(path, {}, own=True)


def _opened(path: Path, names: Names, own: bool = False) -> Layered:
    opened = read(path)
    try:
        graph = Graph(opened.model)
    except onnx.shape_inference.InferenceError as error:
        raise ReadError(path, f"its types and shapes contradict each other: {error}") from error
    if not graph.inputs:
        raise ReadError(path, "is not a model of images: it has no input")
    takes, images = _inputs(graph)
    places = _places(path, graph, names, images, own)
    named = {place.tensor: layer for layer, place in places.items()}
    if len(named) != len(places):
        twice = next(n for n, p in places.items() if named[p.tensor] != n)
        raise LayerError(path, {twice: f"is the same value as {named[places[twice].tensor]}"})
    named |= {place.tensor: name for name, place in images.items()}
    reads = {
        layer: sources(place.tensor, named, graph.inputs_of) for layer, place in places.items()
    }
    places = {**images, **places}
    parts: dict[str, tuple[list[str], Any]] = {}
    outputs = {name: named[name] for name in graph.outputs if name in named}
    return Layered(
        kind="onnx",
        path=path,
        reads=reads,
        takes=takes,
        step=_step(graph, opened, places, reads, parts),
        stored=lambda: _weights(opened, names),
        whole=_whole(path, {name: images[name].tensor for name in images}, outputs, parts),
        axes={layer: place.axes for layer, place in places.items()},
        alone=lambda layer: _alone(graph, opened, places, reads, layer),
        numbers=_property(graph, NUMBERS) or "float32",
    )


def _inputs(graph: Graph) -> tuple[Images | dict[str, Images], dict[str, Place]]:
    """What every input takes and where it is, by its name, `image` where there is one."""
    found = {value.name: _takes(value) for value in graph.inputs}
    if len(found) == 1:
        ((tensor, (takes, axes)),) = found.items()
        return takes, {IMAGE: Place(tensor, axes)}
    places = {name: Place(name, axes) for name, (_, axes) in found.items()}
    return {name: takes for name, (takes, _) in found.items()}, places


def _takes(value: Any) -> tuple[Images, str]:
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return Images.lying(dims, np.dtype(dtype).name)


def _places(
    path: Path, graph: Graph, names: Names, images: Mapping[str, Place], own: bool
) -> dict[str, Place]:
    """Where each layer's output is, and how it lies."""
    inputs = {value.name for value in graph.inputs}
    check(names, {*graph.makers, *graph.initializers, *inputs}, path)
    given = {layer: place for layer, place in names.items() if place.tensor in graph.makers}
    found = given or _stated(path, graph) or _called_alike(graph)
    if not found and not own:
        raise MappingError(
            [f"(a layer, in {path})"],
            advice="No value carries a layer's name: give a table of names.",
        )
    lying = layouts(graph, next(iter(images.values())).axes)
    places = {
        layer: Place(place.tensor, place.axes or _usual(layer, lying.get(place.tensor, "")))
        for layer, place in found.items()
    }
    return own_named(places, graph.computed()) if own else places


def _usual(layer: str, lying: str) -> str:
    axes = layer_axes(layer)
    return lying if axes == "NHWC" and sorted(lying) == sorted(axes) else ""


def _stated(path: Path, graph: Graph) -> dict[str, Place]:
    """What the metadata of a file of this project says, checked against the graph."""
    values = _metadata(path, graph, VALUES)
    found = {
        layer: Place(values.get(layer, layer), axes)
        for layer, axes in _metadata(path, graph, LAYOUTS).items()
    }
    check(found, graph.makers, path)
    return found


def _metadata(path: Path, graph: Graph, key: str) -> dict[str, str]:
    """A table of names that the file holds under `key`, empty if it has none."""
    text = _property(graph, key) or "{}"
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise ReadError(path, f"its metadata are damaged: {error}") from error


def _property(graph: Graph, key: str) -> str:
    return next((str(e.value) for e in graph.model.metadata_props if e.key == key), "")


def _called_alike(graph: Graph) -> dict[str, Place]:
    return {
        canonical_layer(value): Place(value)
        for value in graph.makers
        if canonical_layer(value) in KNOWN
    }


def _step(
    graph: Graph,
    opened: Opened,
    places: Mapping[str, Place],
    reads: Mapping[str, tuple[str, ...]],
    sessions: dict[str, tuple[list[str], Any]],
) -> Step:
    def step(layer: str, inputs: Sequence[Array]) -> Array:
        if layer not in sessions:
            feeds = [places[name].tensor for name in reads[layer]]
            part = graph.between(feeds, places[layer].tensor)
            sessions[layer] = feeds, _session(part, opened)
        feeds, session = sessions[layer]
        types = [onnx.helper.tensor_dtype_to_np_dtype(graph.type_of(name)) for name in feeds]
        given = {
            name: np.ascontiguousarray(values, dtype)
            for name, values, dtype in zip(feeds, inputs, types, strict=True)
        }
        (output,) = session.run(None, given)
        return np.asarray(output)

    return step


def _alone(
    graph: Graph,
    opened: Opened,
    places: Mapping[str, Place],
    reads: Mapping[str, tuple[str, ...]],
    layer: str,
) -> Any:
    """One layer as a model of its own, with its weights in it."""
    if layer not in reads:
        return None
    feeds = [places[name].tensor for name in reads[layer]]
    model = graph.between(feeds, places[layer].tensor)
    for tensor in model.graph.initializer:
        if tensor.name in opened.apart:
            values = np.ascontiguousarray(opened.initializers[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def _session(model: Any, opened: Opened) -> Any:
    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False  # what a layer needed is given back, not kept for it
    apart = [t.name for t in model.graph.initializer if t.name in opened.apart]
    values = [
        onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(opened.initializers[name]))
        for name in apart
    ]
    options.add_external_initializers(apart, values)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what an error means is said once, by us
    # There is a session for each layer; their idle threads must not compete.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _whole(
    path: Path,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    parts: dict[str, tuple[list[str], Any]],
) -> Whole:
    sessions: list[Any] = []

    def whole(given: Mapping[str, Array]) -> dict[str, Array]:
        if not sessions:
            parts.clear()  # the weights are not to be held twice
            sessions.append(
                onnxruntime.InferenceSession(path, _options(), providers=["CPUExecutionProvider"])
            )
        if not outputs:
            return {}
        feeds = {inputs[name]: np.ascontiguousarray(images) for name, images in given.items()}
        found = sessions[0].run(list(outputs), feeds)
        return {layer: np.asarray(v) for layer, v in zip(outputs.values(), found, strict=True)}

    return whole


def _weights(opened: Opened, names: Names) -> dict[str, Array]:
    """Initializers that are weights; indices, shapes and nameless single numbers are constants.

    A grouped kernel stands as `kernel.0`, `kernel.1`; put together again along its outputs.
    """
    stored: dict[str, Array] = {}
    parts: dict[str, dict[int, Array]] = {}
    for name, values in opened.initializers.items():
        stem, _, number = name.rpartition(".")
        is_index = values.dtype.kind in "iub" and values.dtype.itemsize > 1
        if is_index or (values.size < 2 and not called_alike(name)):
            continue
        if number.isdecimal() and stem.endswith("/kernel"):
            parts.setdefault(stem, {})[int(number)] = values
        else:
            stored[name] = values
    whole = {
        stem: np.concatenate([found[i] for i in sorted(found)]) for stem, found in parts.items()
    }
    return by_name({**stored, **whole}, ONNX, names)
