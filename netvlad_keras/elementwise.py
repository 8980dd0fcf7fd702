"""Registered Keras layers that treat each position by itself; see `layers`."""

# mypy: allow-subclassing-any

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["BatchNormalization", "Dropout", "NormOffset"]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


@_register
class BatchNormalization(keras.layers.Layer):
    """(x - mean) · (multiplier / sigma) + offset, channel by channel (vl_nnbnorm with moments).

    `sigma` is MatConvNet's, the root of variance plus epsilon. It and the mean
    stay what they are in training too.
    """

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1],)
        self.multiplier = self.add_weight(name="multiplier", shape=shape, initializer="ones")
        self.offset = self.add_weight(name="offset", shape=shape, initializer="zeros")
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.sigma = self.add_weight(name="sigma", shape=shape, initializer="ones", trainable=False)

    def call(self, inputs: Any) -> Any:
        return (inputs - self.mean) * (self.multiplier / self.sigma) + self.offset

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@_register
class Dropout(keras.layers.Layer):
    """In training `rate` of all elements are zero and the rest grow (vl_nndropout); else nothing.

    Without a state of its own, so that a file of the net holds its weights alone.
    """

    def __init__(self, rate: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"a rate of {rate}: it must be from 0 to below 1")
        self.rate = float(rate)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return keras.random.dropout(inputs, self.rate) if training and self.rate else inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@_register
class NormOffset(keras.layers.Layer):
    """x - alpha · (Σ x²)^beta, the sum over the channels (vl_nnnoffset)."""

    #: The least sum of squares, as vl_nnnoffset has it.
    _LEAST = 1e-8

    def __init__(self, alpha: float, beta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha, self.beta = alpha, beta

    def call(self, inputs: Any) -> Any:
        total = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        return inputs - self.alpha * ops.power(ops.maximum(total, self._LEAST), self.beta)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}
