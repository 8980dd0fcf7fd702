"""Registered Keras layers with MatConvNet's semantics, to the epsilon.

All are written in `keras.ops` and take N×H×W×C tensors, on every backend.
Those that stand elsewhere are gathered here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from netvlad_keras.elementwise import BatchNormalization, Dropout, NormOffset
from netvlad_keras.merging import Concatenation, Crop, Flatten, Product, Scale, Sum
from netvlad_keras.pooling import (
    AveragePooling,
    MaxPooling,
    SpatialNormalization,
    TotalPooling,
)
from netvlad_keras.sampling import AffineGrid, BilinearSampling
from netvlad_keras.windows import Convolution, TransposedConvolution, name_for_torch

__all__ = [
    "AffineGrid",
    "AveragePooling",
    "BatchNormalization",
    "BilinearSampling",
    "Concatenation",
    "Convolution",
    "Crop",
    "CrossChannelNormalization",
    "Dropout",
    "Flatten",
    "L2Normalization",
    "MaxPooling",
    "MeanSubtraction",
    "NetVLAD",
    "NormOffset",
    "Product",
    "Scale",
    "SpatialNormalization",
    "Sum",
    "TotalPooling",
    "TransposedConvolution",
    "WholeL2Normalization",
]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


def _keep_precise(layer: keras.layers.Layer) -> None:
    """Compute in the type of the weights where the policy is a mixed one.

    Half precision ends at 65,504, which the squares of conv5_3 exceed, and 1e-12 is 0 in it.
    """
    if layer.compute_dtype != layer.variable_dtype:
        layer.dtype_policy = layer.variable_dtype


@_register
class MeanSubtraction(keras.layers.Layer):
    """Subtracts one mean colour, or a mean image, from an image: N×H×W×C to the same.

    `mean` is C or H×W×C numbers. It is a weight that training leaves alone, so
    that it travels with the others.
    """

    def __init__(self, mean: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = np.asarray(mean, "float64")

    def build(self, input_shape: Any) -> None:
        self.mean = self.add_weight(
            name="mean",
            shape=self.start.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(self.start, dtype),
            trainable=False,
        )
        name_for_torch(self.weights)

    def call(self, inputs: Any) -> Any:
        return ops.subtract(inputs, self.mean)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.start.tolist()}


@_register
class CrossChannelNormalization(keras.layers.Layer):
    """Local response normalisation (vl_nnnormalize): x / (kappa + alpha Σ x²)^beta.

    The sum runs over the `window` channels around each one; over all of them,
    from a window of twice as many on.
    """

    def __init__(self, window: int, kappa: float, alpha: float, beta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window, self.kappa, self.alpha, self.beta = int(window), kappa, alpha, beta
        _keep_precise(self)

    def call(self, inputs: Any) -> Any:
        weight = self.kappa + self.alpha * self._energy(inputs)
        # a root is one rounding, a power is several
        return inputs / (ops.sqrt(weight) if self.beta == 0.5 else ops.power(weight, self.beta))

    def _energy(self, inputs: Any) -> Any:
        channels, before = inputs.shape[-1], (self.window - 1) // 2
        squares = ops.square(inputs)
        if before >= channels - 1:
            return ops.sum(squares, axis=-1, keepdims=True)
        edges = [[0, 0]] * (len(inputs.shape) - 1) + [[before, self.window - 1 - before]]
        squares = ops.pad(squares, edges)
        total = squares[..., :channels]
        for shift in range(1, self.window):
            total = total + squares[..., shift : shift + channels]
        return total

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("window", "kappa", "alpha", "beta")}
        return {**super().get_config(), **own}


@_register
class L2Normalization(keras.layers.Layer):
    """x / sqrt(Σ x² + epsilon) along the last axis (vl_nnnormalize over all channels)."""

    def __init__(self, epsilon: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        _keep_precise(self)

    def call(self, inputs: Any) -> Any:
        total = ops.sum(ops.square(inputs), axis=-1, keepdims=True)
        return inputs / ops.sqrt(total + self.epsilon)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@_register
class WholeL2Normalization(keras.layers.Layer):
    """x / (sqrt(Σ x²) + epsilon) of the flattened input: N×… to N×D.

    Flattens as MATLAB does, the first axis fastest: of [N, 1, K, D] element
    (k, d) lands at d·K + k (NetVLAD's layerWholeL2Normalize,
    relja_l2normalize_col).
    """

    #: Keeps the square root's gradient finite at zero; far below any effect on x / epsilon.
    _TINY = 1e-36

    def __init__(self, epsilon: float = 1e-12, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        _keep_precise(self)

    def call(self, inputs: Any) -> Any:
        flat = inputs
        if (rank := len(inputs.shape)) > 2:
            size = self.compute_output_shape(inputs.shape)[1]
            shape = (-1, size) if size else (ops.shape(inputs)[0], -1)
            flat = ops.reshape(ops.transpose(inputs, (0, *range(rank - 1, 0, -1))), shape)
        total = ops.sum(ops.square(flat), axis=-1, keepdims=True)
        return flat / (ops.sqrt(ops.maximum(total, self._TINY)) + self.epsilon)

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes = input_shape[1:]
        return (input_shape[0], None if None in sizes else math.prod(sizes))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@_register
class NetVLAD(keras.layers.Layer):
    """Sums of residuals to K cluster centres: N×H×W×D to N×1×K×D.

    V[k] = Σ_i a_k(x_i) (x_i − c_k), with a the softmax of x·w_k (+ b_k)
    (Arandjelović et al., CVPR 2016, eq. 4; NetVLAD's layerVLAD and
    layerVLADv2). Computed as two matrix products, without the N×HW×K×D
    residuals. Weights: `assignment` D×K, `bias` K (only with `use_bias`),
    `centers` D×K, the centres themselves and not their negatives.
    """

    def __init__(
        self,
        clusters: int,
        use_bias: bool = False,
        initializer: str = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.clusters = clusters
        self.use_bias = use_bias
        self.initializer = initializer
        _keep_precise(self)

    def build(self, input_shape: Any) -> None:
        shape, start = (input_shape[-1], self.clusters), self.initializer
        self.bias = None
        self.assignment = self.add_weight(name="assignment", shape=shape, initializer=start)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=shape[1:], initializer="zeros")
        # zero until there are clusters: `clusters.is_initialised` goes by it
        self.centers = self.add_weight(name="centers", shape=shape, initializer="zeros")
        name_for_torch(self.weights)

    def call(self, inputs: Any) -> Any:
        batch = ops.shape(inputs)[0]
        features = ops.reshape(inputs, (batch, -1, inputs.shape[-1]))
        logits = ops.matmul(features, ops.expand_dims(self.assignment, 0))
        if self.bias is not None:
            logits = logits + self.bias
        assignment = ops.softmax(logits, axis=-1)
        sums = ops.matmul(ops.transpose(assignment, (0, 2, 1)), features)
        mass = ops.expand_dims(ops.sum(assignment, axis=1), -1)
        return ops.expand_dims(sums - mass * ops.transpose(self.centers), 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 1, self.clusters, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("clusters", "use_bias", "initializer")}
        return {**super().get_config(), **own}
