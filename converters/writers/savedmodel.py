"""Writes `saved_model/`, TensorFlow's format, each variable stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from converters.writers.options import WriteOptions
from netvlad_keras.spec import source_name

__all__ = ["write"]


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Save `model` with two signatures that share its variables.

    `serving_default`: `image` [batch, height, width, 3] float32 to
    `descriptor` [batch, D]. `layers`: the same image to every layer's output
    by the source's name, `input` after the mean first.
    """
    image = tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    outputs = {source_name(layer.name): layer.output for layer in model.layers[1:]}
    every_layer = keras.Model(model.inputs, outputs)

    @tf.function(input_signature=[image], autograph=False)
    def describe(image: Any) -> dict[str, Any]:
        return {"descriptor": model(image)}

    @tf.function(input_signature=[image], autograph=False)
    def layers(image: Any) -> dict[str, Any]:
        return dict(every_layer(image))

    module = _module(model)
    signatures = {"serving_default": describe, "layers": layers}
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
