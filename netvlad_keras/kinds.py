"""The Keras layer of each of MatConvNet's kinds, from the layer's own settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from netvlad_keras import layers
from netvlad_keras.net import NetLayer

__all__ = ["KINDS", "READS", "Factory"]

#: From a row of the net to its layer, which the builder gives its name.
Factory = Callable[[NetLayer], Any]

_NO_PADS = (0, 0, 0, 0)


def _whole(row: NetLayer, option: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """A setting of several whole numbers, which MATLAB keeps as doubles."""
    values = tuple(row.options.get(option, default))
    whole = tuple(int(value) for value in values)
    if whole != values or len(whole) != len(default):
        raise ValueError(f"{option} is {values}, it must be {len(default)} whole numbers")
    return whole


def _shapes(row: NetLayer) -> dict[str, tuple[int, ...]]:
    return {weight.role: weight.shape for weight in row.weights}


def _kernel(row: NetLayer) -> tuple[int, int, int, int]:
    shape = _shapes(row).get("kernel", ())
    if len(shape) != 4:
        raise ValueError(f"its filters are {shape}, they must have four axes")
    high, wide, third, last = shape
    return high, wide, third, last


def _convolution(row: NetLayer) -> Any:
    high, wide, depth, width = _kernel(row)
    return layers.Convolution(
        width,
        (high, wide),
        _whole(row, "pad", _NO_PADS),
        strides=_whole(row, "stride", (1, 1)),
        dilation_rate=_whole(row, "dilate", (1, 1)),
        depth=depth,
        use_bias="bias" in _shapes(row),
        kernel_initializer="he_normal",
    )


def _transposed(row: NetLayer) -> Any:
    high, wide, width, _ = _kernel(row)
    groups = int(row.options.get("numGroups", 1))
    return layers.TransposedConvolution(
        width * groups,
        (high, wide),
        _whole(row, "upsample", (1, 1)),
        _whole(row, "crop", _NO_PADS),
        groups,
        use_bias="bias" in _shapes(row),
    )


def _pooling(row: NetLayer) -> Any:
    kinds: dict[Any, Any] = {"max": layers.MaxPooling, "avg": layers.AveragePooling}
    method = row.options.get("method", "max")
    if method not in kinds:
        raise ValueError(f"no pooling method {method!r}, there are max and avg")
    size, stride = _whole(row, "pool", (1, 1)), _whole(row, "stride", (1, 1))
    return kinds[method](size, stride, _whole(row, "pad", _NO_PADS))


def _rectifier(row: NetLayer) -> Any:
    leak = float(row.options.get("leak", 0))
    return keras.layers.LeakyReLU(negative_slope=leak) if leak else keras.layers.ReLU()


def _normalization(row: NetLayer) -> Any:
    window, kappa, alpha, beta = row.options.get("param", (5, 1, 2e-5, 0.75))
    return layers.CrossChannelNormalization(int(window), float(kappa), float(alpha), float(beta))


def _spatial(row: NetLayer) -> Any:
    high, wide, alpha, beta = row.options["param"]
    return layers.SpatialNormalization((int(high), int(wide)), float(alpha), float(beta))


def _offset(row: NetLayer) -> Any:
    alpha, beta = row.options["param"]
    return layers.NormOffset(float(alpha), float(beta))


def _scale(row: NetLayer) -> Any:
    shapes = _shapes(row)
    given, wanted = len(row.inputs) - 1 + len(shapes), 1 + bool(row.options.get("hasBias", True))
    if given != wanted:
        raise ValueError(f"hasBias asks for {wanted} weights or inputs to scale by, not {given}")
    return layers.Scale(shapes.get("multiplier"), shapes.get("bias"))


def _flattening(row: NetLayer) -> Any:
    if (axis := row.options.get("axis", 3)) != 3:
        raise ValueError(f"flattens along axis {axis}, only 3 is carried")
    return layers.Flatten()


def _vlad(row: NetLayer) -> Any:
    _, clusters = _shapes(row).get("assignment", (0, 0))
    return layers.NetVLAD(clusters, use_bias=row.kind == "layerVLADv2")


#: MatConvNet's name for a kind of layer -> what makes the Keras layer.
KINDS: dict[str, Factory] = {
    "conv": _convolution,
    "convt": _transposed,
    "pool": _pooling,
    "relu": _rectifier,
    "sigmoid": lambda _: keras.layers.Activation("sigmoid"),
    "softmax": lambda _: keras.layers.Softmax(axis=-1),
    "dropout": lambda row: layers.Dropout(float(row.options.get("rate", 0.5))),
    "bnorm": lambda _: layers.BatchNormalization(),
    "normalize": _normalization,
    "lrn": _normalization,
    "spnorm": _spatial,
    "normoffset": _offset,
    "noffset": _offset,
    "concat": lambda row: layers.Concatenation(int(row.options.get("dim", 3))),
    "sum": lambda _: layers.Sum(),
    "product": lambda _: layers.Product(),
    "scale": _scale,
    "Axpy": lambda _: layers.Scale(),  # a · x + y
    "crop": lambda row: layers.Crop(_whole(row, "crop", (0, 0))),
    "flatten": _flattening,
    "affinegrid": lambda row: layers.AffineGrid(row.options["Ho"], row.options["Wo"]),
    "bilinearsampler": lambda _: layers.BilinearSampling(),
    "layerVLAD": _vlad,
    "layerVLADv2": _vlad,
    "layerWholeL2Normalize": lambda _: layers.WholeL2Normalization(),
    "layerTotalMaxPool": lambda _: layers.TotalPooling("max"),
    "layerTotalAvgPool": lambda _: layers.TotalPooling("avg"),
}

#: How many inputs a kind reads, where it is a fixed number.
READS = {
    **dict.fromkeys(KINDS.keys() - {"concat", "sum", "product", "scale"}, 1),
    **dict.fromkeys(("crop", "bilinearsampler"), 2),
    "Axpy": 3,
}
