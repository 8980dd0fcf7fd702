"""Runs `.keras` and `.h5` models, ours and those of Keras's own layers, layer by layer."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from converters.errors import ConversionError, LayerError, ReadError
from verify.capture import Array
from verify.names.canonical import IMAGE, canonical_layer
from verify.names.given import Names, check
from verify.names.weights import KERAS, by_name
from verify.runners import NOTES, keras_file
from verify.runners.layered import Images, Layered, Step, Whole

__all__ = ["open"]


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open a model whose classes are all on `verify.names.keras_classes`'s list.

    `names` maps canonical layers to the model's layer names. Raises `ReadError` for a file that
    is no such model, naming what is refused, before Keras has seen any of it; `MappingError` for
    names that it lacks.
    """
    with _parsing(path):
        keras_file.check(path)
        for module in ("netvlad_keras.model", "netvlad_keras.graph"):
            import_module(module)  # registers the classes
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    if not all(getattr(model, each, None) for each in ("inputs", "outputs")):
        raise ReadError(path, "is not a model of images: it has no input or no output")
    layers = _named(path, model, names)
    takes, axes = _inputs(model)
    reads = _reads(path, model, layers)
    return Layered(
        kind="keras" if zipfile.is_zipfile(path) else "h5",
        path=path,
        reads=reads,
        takes=takes,
        step=_step(layers),
        stored=lambda: _weights(layers),
        whole=_whole(model, layers),
        axes={**axes, **{name: place.axes for name, place in names.items()}},
        notes=(*NOTES, *_notes(layers)),
    )


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """The border to Keras and h5py: whatever they raise becomes a ReadError."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ReadError(path, f"cannot be opened as a Keras model: {first}") from error


#: Keras's own classes, and ours, that do nothing outside of training.
_PASSING = ("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise")


def _named(path: Path, model: Any, names: Names) -> dict[str, Any]:
    """The model's layers by canonical name: no inputs, and nothing that only training runs."""
    layers = [
        layer
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer) and type(layer).__name__ not in _PASSING
    ]
    check(names, {layer.name for layer in layers}, path)
    own = {place.tensor: name for name, place in names.items()}
    found: dict[str, Any] = {}
    for layer in layers:
        name = own.get(layer.name) or canonical_layer(layer.name)
        if name in found:
            raise LayerError(path, {name: f"both {found[name].name} and {layer.name} are it"})
        found[name] = layer
    return found


def _inputs(model: Any) -> tuple[Images | dict[str, Images], dict[str, str]]:
    """What every input takes and how it lies, by its name, `image` where there is one."""
    found = {
        canonical_layer(tensor.name): Images.lying(tensor.shape, tensor.dtype)
        for tensor in model.inputs
    }
    if len(found) == 1:
        ((takes, axes),) = found.values()
        return takes, {IMAGE: axes}
    return (
        {name: takes for name, (takes, _) in found.items()},
        {name: axes for name, (_, axes) in found.items()},
    )


def _whole(model: Any, layers: Mapping[str, Any]) -> Whole:
    names = {id(layer): name for name, layer in layers.items()}
    made = [names.get(id(tensor._keras_history[0]), "") for tensor in model.outputs]
    inputs = [canonical_layer(tensor.name) for tensor in model.inputs]

    def whole(given: Mapping[str, Array]) -> dict[str, Array]:
        arrays = list(given.values()) if len(inputs) == 1 else [given[name] for name in inputs]
        found = model.predict_on_batch(arrays if len(arrays) > 1 else arrays[0])
        flat = keras.tree.flatten(found)
        return {name: np.asarray(v) for name, v in zip(made, flat, strict=True) if name}

    return whole


def _reads(path: Path, model: Any, layers: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Layer -> the layers that it reads, followed back from the model's outputs.

    A layer may have been called before it came into this model; only the tensors' own history,
    which Keras keeps to itself, says which call is the model's.
    """
    names = {id(layer): name for name, layer in layers.items()}
    calls: dict[str, set[int]] = {name: set() for name in layers}
    reads: dict[str, tuple[str, ...]] = {}
    waiting = list(keras.tree.flatten(model.outputs))
    while waiting:
        layer, call, _ = waiting.pop()._keras_history
        name = names.get(id(layer))
        if type(layer).__name__ in _PASSING:
            waiting += layer._inbound_nodes[call].input_tensors
        elif name is not None and call not in calls[name]:
            calls[name].add(call)
            tensors = layer._inbound_nodes[call].input_tensors
            reads[name] = tuple(_source(t, names, model) for t in tensors)
            waiting += tensors
    faults = {name: f"is used {len(c)} times" for name, c in calls.items() if len(c) != 1}
    if faults:
        raise LayerError(path, faults, advice="In ONNX each use of a layer has a name of its own.")
    return reads


def _source(tensor: Any, names: Mapping[int, str], model: Any) -> str:
    """The layer that makes a tensor, or the input that it is."""
    layer, call, _ = tensor._keras_history
    while type(layer).__name__ in _PASSING:
        layer, call, _ = layer._inbound_nodes[call].input_tensors[0]._keras_history
    own = canonical_layer(layer.name) if len(model.inputs) > 1 else IMAGE
    return names.get(id(layer), own)


def _step(layers: Mapping[str, Any]) -> Step:
    def step(name: str, inputs: Sequence[Array]) -> Array:
        layer = layers[name]
        tensors = [keras.ops.convert_to_tensor(values) for values in inputs]
        output = layer(tensors if len(tensors) > 1 else tensors[0])
        return np.asarray(keras.ops.convert_to_numpy(output))

    return step


def _weights(layers: Mapping[str, Any]) -> dict[str, Array]:
    stored = {
        f"{name}/{variable.path if isinstance(layer, keras.Model) else variable.name}": np.asarray(
            keras.ops.convert_to_numpy(variable.value)
        )
        for name, layer in layers.items()
        for variable in layer.weights
    }
    return by_name(stored, KERAS, {})


def _notes(layers: Mapping[str, Any]) -> Iterator[str]:
    for name, layer in layers.items():
        if isinstance(layer, keras.Model):
            yield f"{name} is a model of {len(layer.layers)} layers, compared as one"
