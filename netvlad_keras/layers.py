"""Registered Keras layers with MatConvNet's semantics, to the epsilon.

All are written in `keras.ops` and take N×H×W×C tensors, on every backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

__all__ = [
    "Convolution",
    "CrossChannelNormalization",
    "L2Normalization",
    "MaxPooling",
    "MeanSubtraction",
    "NetVLAD",
    "TotalPooling",
    "WholeL2Normalization",
]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


@_register
class MeanSubtraction(keras.layers.Layer):
    """Subtracts one mean colour from an image: N×H×W×C to the same.

    The mean is a weight that training leaves alone, so that it travels with
    the others.
    """

    def __init__(self, mean: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean_colour = tuple(float(value) for value in mean)

    def build(self, input_shape: Any) -> None:
        self.mean = self.add_weight(
            name="mean",
            shape=(len(self.mean_colour),),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(self.mean_colour, dtype),
            trainable=False,
        )

    def call(self, inputs: Any) -> Any:
        return ops.subtract(inputs, self.mean)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": list(self.mean_colour)}


@_register
class Convolution(keras.layers.Conv2D):
    """Convolution with a pad for each side and filter groups (vl_nnconv).

    `pads` is top, bottom, left, right. The kernel is h×w×(I/groups)×O. Groups
    are computed as split, convolve, concatenate: TensorFlow runs its grouped
    convolution on CPUs only inside a function that ONNX cannot express.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: tuple[int, int],
        pads: Sequence[int] = (0, 0, 0, 0),
        **kwargs: Any,
    ) -> None:
        kwargs.pop("padding", None)
        super().__init__(
            filters, kernel_size, padding="valid", data_format="channels_last", **kwargs
        )
        self.pads = tuple(int(pad) for pad in pads)
        self._is_same = tuple(self.strides) == (1, 1) and self.pads == tuple(
            side
            for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True)
            for side in ((size - 1) * rate // 2, (size - 1) * rate - (size - 1) * rate // 2)
        )

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if self.groups == 1:
            return self._convolve(inputs, kernel)
        parts = zip(
            ops.split(inputs, self.groups, axis=-1),
            ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return ops.concatenate([self._convolve(part, k) for part, k in parts], axis=-1)

    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        if not self._is_same:
            inputs = _pad(inputs, self.pads, 0.0)
        return ops.conv(
            inputs,
            kernel,
            strides=list(self.strides),
            padding="same" if self._is_same else "valid",
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        extent = [
            (size - 1) * rate + 1
            for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True)
        ]
        return (*_slid(input_shape, extent, self.strides, self.pads), self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for fixed in ("padding", "data_format"):
            del config[fixed]
        return {**config, "pads": list(self.pads)}


@_register
class MaxPooling(keras.layers.Layer):
    """Maximum over windows, with a pad for each side (vl_nnpool, method `max`)."""

    def __init__(
        self,
        pool_size: tuple[int, int],
        strides: tuple[int, int],
        pads: Sequence[int] = (0, 0, 0, 0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = tuple(pool_size)
        self.strides = tuple(strides)
        self.pads = tuple(pads)

    def call(self, inputs: Any) -> Any:
        inputs = _pad(inputs, self.pads, float("-inf"))
        return ops.max_pool(
            inputs, self.pool_size, self.strides, padding="valid", data_format="channels_last"
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*_slid(input_shape, self.pool_size, self.strides, self.pads), input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        config = {"pool_size": self.pool_size, "strides": self.strides, "pads": self.pads}
        return {**super().get_config(), **{key: list(value) for key, value in config.items()}}


@_register
class CrossChannelNormalization(keras.layers.Layer):
    """Local response normalisation (vl_nnnormalize): x / (kappa + alpha Σ x²)^beta.

    The sum runs over the `window` channels around each one.
    """

    def __init__(self, window: int, kappa: float, alpha: float, beta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window, self.kappa, self.alpha, self.beta = int(window), kappa, alpha, beta

    def call(self, inputs: Any) -> Any:
        channels = inputs.shape[-1]
        before = (self.window - 1) // 2
        edges = [[0, 0], [0, 0], [0, 0], [before, self.window - 1 - before]]
        squares = ops.pad(ops.square(inputs), edges)
        total = squares[..., :channels]
        for shift in range(1, self.window):
            total = total + squares[..., shift : shift + channels]
        return inputs / ops.power(self.kappa + self.alpha * total, self.beta)

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

    def call(self, inputs: Any) -> Any:
        flat = inputs
        if len(inputs.shape) == 4:
            _, height, width, channels = inputs.shape
            flat = ops.reshape(ops.transpose(inputs, (0, 3, 2, 1)), (-1, height * width * channels))
        total = ops.sum(ops.square(flat), axis=-1, keepdims=True)
        return flat / (ops.sqrt(ops.maximum(total, self._TINY)) + self.epsilon)

    def compute_output_shape(self, input_shape: Any) -> Any:
        size = 1
        for extent in input_shape[1:]:
            size *= extent
        return (input_shape[0], size)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@_register
class TotalPooling(keras.layers.Layer):
    """Maximum or mean over all positions: N×H×W×C to N×C (layerTotalMaxPool, …AvgPool)."""

    def __init__(self, method: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if method not in ("max", "avg"):
            raise ValueError(f"unknown method {method!r}: max or avg")
        self.method = method

    def call(self, inputs: Any) -> Any:
        return (ops.max if self.method == "max" else ops.mean)(inputs, axis=(1, 2))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method}


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

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1], self.clusters)
        self.assignment = self.add_weight(
            name="assignment", shape=shape, initializer=self.initializer
        )
        self.bias = (
            self.add_weight(name="bias", shape=(self.clusters,), initializer="zeros")
            if self.use_bias
            else None
        )
        self.centers = self.add_weight(name="centers", shape=shape, initializer=self.initializer)

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


def _pad(inputs: Any, pads: Sequence[int], value: float) -> Any:
    if not any(pads):
        return inputs
    top, bottom, left, right = pads
    edges = [[0, 0], [top, bottom], [left, right], [0, 0]]
    return ops.pad(inputs, edges, constant_values=value)


def _slid(
    shape: Sequence[Any], extent: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> list[Any]:
    """Batch, height and width after a window of `extent` slides over `shape`."""
    sizes = [shape[0]]
    for axis in (0, 1):
        size = shape[axis + 1]
        padded = None if size is None else size + sum(pads[2 * axis : 2 * axis + 2])
        sizes.append(None if padded is None else (padded - extent[axis]) // strides[axis] + 1)
    return sizes
