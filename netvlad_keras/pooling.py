"""Registered Keras layers that pool windows, with MatConvNet's pads; see `layers`."""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from netvlad_keras.sizes import slid

__all__ = ["AveragePooling", "MaxPooling", "SpatialNormalization", "TotalPooling"]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


class _Pooling(keras.layers.Layer):
    """A window, its steps, and a pad for each side: top, bottom, left, right."""

    def __init__(
        self,
        pool_size: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int] = (0, 0, 0, 0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = tuple(pool_size)
        self.strides = tuple(strides)
        self.pads = tuple(pads)
        if any(pad >= self.pool_size[side // 2] for side, pad in enumerate(self.pads)):
            raise ValueError(f"a pad of {self.pads} needs a larger pool than {self.pool_size}")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (
            *slid_shape(input_shape, self.pool_size, self.strides, self.pads),
            input_shape[-1],
        )

    def get_config(self) -> dict[str, Any]:
        config = {"pool_size": self.pool_size, "strides": self.strides, "pads": self.pads}
        return {**super().get_config(), **{key: list(value) for key, value in config.items()}}


@_register
class MaxPooling(_Pooling):
    """Maximum over windows (vl_nnpool, method `max`)."""

    def call(self, inputs: Any) -> Any:
        inputs = padded(inputs, self.pads, float("-inf"))
        return ops.max_pool(
            inputs, self.pool_size, self.strides, padding="valid", data_format="channels_last"
        )


@_register
class AveragePooling(_Pooling):
    """Mean over the part of each window that lies in the image (vl_nnpool, method `avg`)."""

    def call(self, inputs: Any) -> Any:
        return _mean(inputs, self.pool_size, self.strides, self.pads)


@_register
class SpatialNormalization(keras.layers.Layer):
    """x / (1 + alpha · mean of x² around it)^beta, channel by channel (vl_nnspnorm).

    The mean is that of `AveragePooling` over a window of `window` rows and
    columns, of which the larger half lies below and to the right.
    """

    def __init__(self, window: Sequence[int], alpha: float, beta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window, self.alpha, self.beta = tuple(int(size) for size in window), alpha, beta

    def call(self, inputs: Any) -> Any:
        pads = [side for size in self.window for side in ((size - 1) // 2, size // 2)]
        around = _mean(ops.square(inputs), self.window, (1, 1), pads)
        return inputs / ops.power(1 + self.alpha * around, self.beta)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"window": list(self.window), "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}


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


def _mean(inputs: Any, size: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> Any:
    """The mean with pads of zeros, over the share of each window that is no pad."""

    def slide(maps: Any) -> Any:
        return ops.average_pool(
            padded(maps, pads, 0.0),
            tuple(size),
            tuple(strides),
            padding="valid",
            data_format="channels_last",
        )

    if not any(pads):
        return slide(inputs)
    return slide(inputs) / slide(ops.ones_like(inputs[:1, :, :, :1]))


def padded(inputs: Any, pads: Sequence[int], value: float) -> Any:
    """N×H×W×C with rows and columns of `value` around it: top, bottom, left, right."""
    if not any(pads):
        return inputs
    top, bottom, left, right = pads
    edges = [[0, 0], [top, bottom], [left, right], [0, 0]]
    return ops.pad(inputs, edges, constant_values=value)


def slid_shape(
    shape: Sequence[Any], extent: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> list[Any]:
    """Batch, height and width after a window of `extent` slides over `shape`."""
    sizes = [shape[0]]
    for axis in (0, 1):
        size, around = shape[axis + 1], sum(pads[2 * axis : 2 * axis + 2])
        sizes.append(None if size is None else slid(size, extent[axis], strides[axis], around))
    return sizes
