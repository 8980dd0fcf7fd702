"""A layer's weights as arrays that have all of their axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converters.checkpoint import Array
from converters.readers.finite import not_finite
from converters.readers.mat_value import Value, describe, is_empty

__all__ = ["Axes", "axes_of", "floating", "tensor"]

#: How many axes a weight has; None: as it is stored.
Axes = int | None

# Axes of each weight. Batch norm's third is [mean, sigma] per channel; scale's
# are H×W×C, a channel's own 1×1×C.
_AXES: Mapping[str, tuple[int, ...]] = {
    "conv": (4, 1),
    "convt": (4, 1),
    "bnorm": (1, 1, 2),
    "scale": (3, 3),
    "layerVLAD": (4, 4),
    "layerVLADv2": (4, 1, 4),
}
# How many of them, from the last on, may be absent; scale's may be inputs instead.
_OPTIONAL = {"conv": 1, "convt": 1, "scale": 2}


def axes_of(kind: str, count: int) -> tuple[Axes, ...]:
    """The axes of each of a layer's `count` weights. Raises ValueError for a wrong count."""
    axes = _AXES.get(kind)
    if axes is None:
        return (None,) * count
    if not len(axes) - _OPTIONAL.get(kind, 0) <= count <= len(axes):
        hint = "; without moments it cannot be run on one image" if kind == "bnorm" else ""
        raise ValueError(f"has {count} weights where a {kind} has {len(axes)}{hint}")
    return axes[:count]


def tensor(value: Value, axes: Axes, *, optional: bool = False) -> Array | None:
    """One weight; None where it is empty and may be. No copy is made of a float array.

    Raises ValueError where it is not numbers, not finite or does not have the axes.
    """
    if is_empty(value) and optional:
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        hint = "; gather it before saving" if "gpuArray" in describe(value) else ""
        raise ValueError(f"is {describe(value)} where numbers belong{hint}")
    if axes and is_empty(value):
        raise ValueError("is empty")
    array = _shaped(floating(value), axes)
    if wrong := not_finite(array):
        raise ValueError(f"({'×'.join(map(str, array.shape))}): {wrong}")
    return array


def floating(array: Array) -> Array:
    """MATLAB stores a float array of whole numbers as integers: make it float again."""
    if array.dtype.kind == "f":
        return array
    return array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)


def _shaped(array: Array, axes: Axes) -> Array:
    """Give back the trailing axes of size 1 that MATLAB drops; flatten a vector."""
    if axes == 1:
        if array.size != max(array.shape):
            raise ValueError(f"has shape {array.shape} where a vector belongs")
        return array.reshape(-1)
    if axes is not None and array.ndim > axes:
        raise ValueError(f"has shape {array.shape} where {axes} axes belong")
    if axes == 2 and array.shape[1] != 2:
        raise ValueError(f"has shape {array.shape} where mean and sigma per channel belong")
    dropped = (1,) * ((axes or 0) - array.ndim)
    return array.reshape(array.shape + dropped, order="F")
