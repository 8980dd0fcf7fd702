"""Writes `saved_model/`, TensorFlow's format, each variable stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from converters.writers.layers import computing
from converters.writers.options import WriteOptions
from netvlad_keras.spec import source_name

__all__ = ["write"]


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Save `model` with two signatures that share its variables.

    `serving_default`: the spec's inputs, each [batch, height, width, channels]
    float32, to its outputs (NetVLAD: `image` to `descriptor`). `layers`: the
    same inputs to every layer's output by the source's name, for NetVLAD
    `input` after the mean first.
    """
    names = list(dict(model.spec.inputs))
    outputs = [name for _, name in model.spec.outputs]
    made = {source_name(layer.name): layer.output for layer in computing(model)}
    every_layer = keras.Model(model.inputs, made)
    images = [
        tf.TensorSpec((None, None, None, channels), tf.float32, name=name)
        for name, channels in model.spec.inputs
    ]

    @tf.function(input_signature=images, autograph=False)
    def compute(*images: Any) -> dict[str, Any]:
        found = model(dict(zip(names, images, strict=True)) if len(names) > 1 else images[0])
        return found if isinstance(found, dict) else {outputs[0]: found}

    @tf.function(input_signature=images, autograph=False)
    def layers(*images: Any) -> dict[str, Any]:
        return dict(every_layer(list(images) if len(images) > 1 else images[0]))

    module = _module(model)
    signatures = {"serving_default": compute, "layers": layers}
    tf.saved_model.save(module, str(path), signatures=signatures)


def _module(model: Any) -> Any:
    """The variables by name, in a module: saving the Keras model would store them twice."""
    module = tf.Module()
    for layer in model.layers:
        if layer.weights:
            holder = tf.Module()
            for variable in layer.weights:
                setattr(holder, variable.name, variable.value)
            setattr(module, source_name(layer.name), holder)
    return module
