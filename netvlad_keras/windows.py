"""Registered Keras layers of filters that slide, with MatConvNet's pads; see `layers`."""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from netvlad_keras.pooling import padded, slid_shape

__all__ = ["Convolution", "TransposedConvolution", "name_for_torch"]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


@_register
class Convolution(keras.layers.Conv2D):
    """Convolution with a pad for each side and filter groups (vl_nnconv).

    `pads` is top, bottom, left, right. The kernel is h×w×(I/groups)×O; with
    `depth`, its third axis, the groups follow from the data: MatConvNet's files
    name none. Groups are computed as split, convolve, concatenate: TensorFlow
    runs its grouped convolution on CPUs only inside a function that ONNX cannot
    express. A vector, N×I, counts as a map of 1×1 and stays a vector.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: tuple[int, int],
        pads: Sequence[int] = (0, 0, 0, 0),
        *,
        strides: int | Sequence[int] = (1, 1),
        depth: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("padding", None)
        super().__init__(
            filters, kernel_size, padding="valid", data_format="channels_last", **kwargs
        )
        # Keras has no stride together with a dilation
        self.strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
        self.pads = tuple(int(pad) for pad in pads)
        self.depth = depth
        self.input_spec = None
        # what TensorFlow calls same it need not pad beforehand; dilated, it makes a detour of it
        self._is_same = (self.strides, tuple(self.dilation_rate)) == ((1, 1), (1, 1)) and (
            self.pads
            == tuple(side for size in self.kernel_size for side in ((size - 1) // 2, size // 2))
        )

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        if self.depth is not None:
            channels = channels or self.depth  # of a flattened map of any size
            groups, rest = divmod(channels, self.depth)
            self.groups: int = groups
            if rest or not groups or self.filters % groups:
                raise ValueError(
                    f"{self.filters} filters of depth {self.depth} cannot share {channels} channels"
                )
        super().build((None, None, None, channels))
        self.input_spec = keras.InputSpec(axes={-1: input_shape[-1]})
        name_for_torch(self.weights)

    def call(self, inputs: Any) -> Any:
        if len(inputs.shape) > 2:
            if inputs.shape[-1] is None:
                inputs = ops.reshape(inputs, (-1, *inputs.shape[1:3], self.depth))
            return super().call(inputs)
        if (*self.kernel_size, *self.pads, self.groups) != (1, 1, 0, 0, 0, 0, 1):
            return ops.squeeze(super().call(inputs[:, None, None]), (1, 2))
        outputs = ops.matmul(inputs, ops.reshape(self.kernel, (inputs.shape[-1], self.filters)))
        return ops.add(outputs, self.bias) if self.use_bias else outputs

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
            inputs = padded(inputs, self.pads, 0.0)
        both = max(self.strides) > 1 and max(self.dilation_rate) > 1
        outputs = ops.conv(
            inputs,
            kernel,
            strides=1 if both else list(self.strides),
            padding="same" if self._is_same else "valid",
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )
        down, across = self.strides
        return outputs[:, ::down, ::across] if both else outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        if len(input_shape) == 2:
            return (input_shape[0], self.filters)
        extent = [
            (size - 1) * rate + 1
            for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True)
        ]
        return (*slid_shape(input_shape, extent, self.strides, self.pads), self.filters)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for fixed in ("padding", "data_format"):
            del config[fixed]
        if self.depth is not None:
            del config["groups"]
        return {
            **config,
            "pads": list(self.pads),
            "strides": list(self.strides),
            "depth": self.depth,
        }


@_register
class TransposedConvolution(keras.layers.Layer):
    """The transpose of a convolution, cropped on each side (vl_nnconvt).

    `crops` is top, bottom, left, right. The kernel is h×w×(O/groups)×I, where
    group g of the input's channels makes group g of the output's. Output size:
    upsample·(size - 1) + h - crop.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int],
        upsample: Sequence[int] = (1, 1),
        crops: Sequence[int] = (0, 0, 0, 0),
        groups: int = 1,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if groups < 1 or filters % groups:
            raise ValueError(f"{filters} filters cannot be in {groups} groups")
        self.filters, self.groups, self.use_bias = filters, groups, use_bias
        self.kernel_size, self.upsample = tuple(kernel_size), tuple(upsample)
        self.crops = tuple(int(crop) for crop in crops)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"{channels} channels cannot be in {self.groups} groups")
        shape = (*self.kernel_size, self.filters // self.groups, channels)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=self.kernel_initializer
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        name_for_torch(self.weights)

    def call(self, inputs: Any) -> Any:
        parts = zip(
            ops.split(inputs, self.groups, axis=-1) if self.groups > 1 else [inputs],
            ops.split(self.kernel, self.groups, axis=-1) if self.groups > 1 else [self.kernel],
            strict=True,
        )
        spread = [
            ops.conv_transpose(
                part, kernel, self.upsample, padding="valid", data_format="channels_last"
            )
            for part, kernel in parts
        ]
        outputs = ops.concatenate(spread, axis=-1) if self.groups > 1 else spread[0]
        outputs = self._cropped(outputs)
        return outputs if self.bias is None else ops.add(outputs, self.bias)

    def _cropped(self, outputs: Any) -> Any:
        top, bottom, left, right = self.crops
        # what Keras leaves below and to the right where the steps are wider than the kernel
        below, beyond = (
            max(step - size, 0) for step, size in zip(self.upsample, self.kernel_size, strict=True)
        )
        rows = slice(top, -(bottom + below) or None)
        columns = slice(left, -(right + beyond) or None)
        return outputs if rows == columns == slice(0, None) else outputs[:, rows, columns]

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes = [
            None if size is None else step * (size - 1) + extent - sum(crop)
            for size, step, extent, crop in zip(
                input_shape[1:3],
                self.upsample,
                self.kernel_size,
                (self.crops[:2], self.crops[2:]),
                strict=True,
            )
        ]
        return (input_shape[0], *sizes, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": list(self.kernel_size),
            "upsample": list(self.upsample),
            "crops": list(self.crops),
            "groups": self.groups,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def name_for_torch(weights: Iterable[Any]) -> None:
    """Take the dots out of the paths of weights that were just made, on torch alone.

    It has no dot in a parameter's name, and a layer may be called `vlad.3Acore`.
    """
    if keras.backend.backend() == "torch":
        for weight in weights:
            weight._path = weight.path.replace(".", "_")
