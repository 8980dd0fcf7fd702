"""Registered Keras layers that slide a window, with MatConvNet's pads; see `layers`."""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["Convolution", "MaxPooling", "name_for_torch"]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


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

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        name_for_torch(self.weights)

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


def name_for_torch(weights: Iterable[Any]) -> None:
    """Take the dots out of the paths of weights that were just made, on torch alone.

    It has no dot in a parameter's name, and a layer may be called `vlad.3Acore`.
    """
    if keras.backend.backend() == "torch":
        for weight in weights:
            weight._path = weight.path.replace(".", "_")


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
