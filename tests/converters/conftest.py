"""Fixtures: every layer's output of an artifact, by the source's name, as N×H×W×C."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from netvlad_keras.net import NetSpec
from netvlad_keras.spec import NetVLADSpec, keras_name

Array = NDArray[Any]
Layers = dict[str, Array]


def keras_layers(path: Path, images: Array) -> Layers:
    import keras

    from netvlad_keras import NetVLADModel
    from netvlad_keras.spec import source_name

    model = keras.saving.load_model(path)
    assert isinstance(model, NetVLADModel)
    outputs = {source_name(layer.name): layer.output for layer in model.layers[1:]}
    found = keras.Model(model.inputs, outputs)([images.astype(np.float32)])
    return {name: np.asarray(value) for name, value in found.items()}


def savedmodel_layers(path: Path, images: Array) -> Layers:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    found = model.signatures["layers"](image=tf.constant(images.astype(np.float32)))
    return {name: value.numpy() for name, value in found.items()}


def onnx_layers(path: Path, images: Array) -> Layers:
    """With every inner value made an output, in the layout that the metadata states."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    metadata = {
        entry.key: json.loads(entry.value)
        for entry in model.metadata_props
        if entry.key in ("layouts", "values")
    }
    layouts, names = metadata["layouts"], metadata["values"]
    for layer in layouts:
        if layer not in names:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (given,) = session.get_inputs()
    if given.type == "tensor(float)":
        images = images.astype(np.float32)
    if given.shape[1] == 3:
        images = images.transpose(0, 3, 1, 2)
    outputs = [value.name for value in session.get_outputs()]
    found = dict(zip(outputs, session.run(outputs, {"image": images}), strict=True))
    return {
        layer: _nhwc(found[names.get(layer, layer)], layout) for layer, layout in layouts.items()
    }


def _nhwc(value: Array, layout: str) -> Array:
    return value.transpose(0, 2, 3, 1) if layout == "NCHW" else value


CAPTURES: dict[str, Callable[[Path, Array], Layers]] = {
    "model.keras": keras_layers,
    "model.h5": keras_layers,
    "saved_model": savedmodel_layers,
    "model.onnx": onnx_layers,
}


@pytest.fixture(scope="session")
def captures() -> dict[str, Callable[[Path, Array], Layers]]:
    """What captures the layers of each artifact, by file name: `(path, images) -> layers`."""
    return CAPTURES


def save_keras(path: Path, spec: NetVLADSpec | NetSpec, weights: Mapping[str, Array]) -> None:
    """A `.h5` file as `model.save` writes it, without Keras."""
    layers: dict[str, list[str]] = {}
    for name in weights:
        layers.setdefault(keras_name(name.rpartition("/")[0]), []).append(name)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"config": {"spec": spec.to_dict()}})
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array(list(layers), "S")
        for layer, names in layers.items():
            group = root.create_group(layer)
            paths = [f"{layer}/{name.rpartition('/')[2]}" for name in names]
            group.attrs["weight_names"] = np.array(paths, "S")
            for stored, name in zip(paths, names, strict=True):
                group[stored] = np.asarray(weights[name])


@pytest.fixture(scope="session")
def keras_file() -> Callable[..., None]:
    """What writes a Keras file: `(path, spec, weights by canonical name)`."""
    return save_keras
