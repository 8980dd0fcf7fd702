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
from verify.runners.layered import Images, Layered, Step, in_order

__all__ = ["open"]


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open a model whose classes are all on `verify.names.keras_classes`'s list.

    `names` maps canonical layers to the model's layer names. Raises `ReadError` for a file that
    is no such model, naming what is refused, before Keras has seen any of it; `MappingError` for
    names that it lacks.
    """
    with _parsing(path):
        keras_file.check(path)
        import_module("netvlad_keras.model")  # registers the classes
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    if [len(getattr(model, each, None) or ()) for each in ("inputs", "outputs")] != [1, 1]:
        raise ReadError(path, "is not a model of one image input and one output")
    layers = _named(path, model, names)
    takes, axes = Images.lying(model.inputs[0].shape, model.inputs[0].dtype)
    reads = _reads(path, model, layers)
    last = in_order(path, reads)[-1]
    return Layered(
        kind="keras" if zipfile.is_zipfile(path) else "h5",
        path=path,
        reads=reads,
        takes=takes,
        step=_step(layers),
        stored=lambda: _weights(layers),
        whole=lambda images: {last: np.asarray(model.predict_on_batch(images))},
        axes={IMAGE: axes, **{name: place.axes for name, place in names.items()}},
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


def _named(path: Path, model: Any, names: Names) -> dict[str, Any]:
    """The model's layers by canonical name, without the one that only takes the image."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    check(names, {layer.name for layer in layers}, path)
    own = {place.tensor: name for name, place in names.items()}
    found: dict[str, Any] = {}
    for layer in layers:
        name = own.get(layer.name) or canonical_layer(layer.name)
        if name in found:
            raise LayerError(path, {name: f"both {found[name].name} and {layer.name} are it"})
        found[name] = layer
    return found


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
        if name is not None and call not in calls[name]:
            calls[name].add(call)
            tensors = layer._inbound_nodes[call].input_tensors
            reads[name] = tuple(names.get(id(t._keras_history[0]), IMAGE) for t in tensors)
            waiting += tensors
    faults = {name: f"is used {len(c)} times" for name, c in calls.items() if len(c) != 1}
    if faults:
        raise LayerError(path, faults, advice="In ONNX each use of a layer has a name of its own.")
    return reads


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
