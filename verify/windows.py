"""The layers of MatConvNet that slide a window: `vl_nnconv`, `vl_nnconvt`, `vl_nnpool`.

Convolutions are matrix products of strips of the image, so that BLAS does the work and no more
than a strip is ever laid out window by window. See `verify.operators` for what all layers share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from converters.checkpoint import Array

__all__ = ["add_bias", "conv", "convt", "pool", "whole"]

#: Elements of the windows that are laid out for one matrix product (16 MB in float64).
_STRIP = 2**21
#: Elements of the filters that are cast at once (128 MB): whitening 32768 to 4096 stays bounded.
_FILTERS = 2**24


def conv(
    x: Array,
    filters: Array,
    bias: Array | None = None,
    *,
    pad: Sequence[float] = (0, 0, 0, 0),
    stride: Sequence[float] = (1, 1),
    dilate: Sequence[float] = (1, 1),
) -> Array:
    """`vl_nnconv`: correlation with filters h×w×I×O, bias of O numbers.

    Where I is not C but divides it, the filters are in C / I groups, each of which sees its own
    I channels. Output size: floor((size + pad - (h - 1)·dilate - 1) / stride) + 1.
    """
    height, width, depth, count = filters.shape
    groups, rest = divmod(x.shape[3], depth)
    if rest or groups == 0 or count % groups:
        raise ValueError(f"{count} filters of depth {depth} cannot share {x.shape[3]} channels")
    windows = _windows(_padded(x, pad), (height, width), stride, dilate)
    y = np.empty((*windows.shape[:3], count), x.dtype)
    volume, share = height * width * depth, count // groups
    block = max(1, _FILTERS // volume)
    for group in range(groups):
        seen = windows[..., group * depth : (group + 1) * depth]
        last = (group + 1) * share
        for first in range(group * share, last, block):
            chosen = slice(first, min(first + block, last))
            matrix = filters[..., chosen].reshape(volume, -1).astype(x.dtype)
            _multiply(seen, matrix, y[..., chosen])
    return add_bias(y, bias)


def convt(
    x: Array,
    filters: Array,
    bias: Array | None = None,
    *,
    upsample: Sequence[float] = (1, 1),
    crop: Sequence[float] = (0, 0, 0, 0),
    numGroups: float = 1,
) -> Array:
    """`vl_nnconvt`: the transpose of `conv`, with filters h×w×K×C.

    Group g of the C channels makes the K channels from g·K on. Output size:
    upsample·(size - 1) + h - crop.
    """
    height, width, count, depth = filters.shape
    images, rows, columns, channels = x.shape
    (groups,) = whole("numGroups", (numGroups,), 1, least=1)
    down, across = whole("upsample", upsample, 2, least=1)
    top, bottom, left, right = whole("crop", crop, 4)
    if depth != channels or channels % groups:
        raise ValueError(f"{depth} filters in {groups} groups cannot take {channels} channels")
    reach, span = down * (rows - 1) + 1, across * (columns - 1) + 1
    y = np.zeros((images, reach + height - 1, span + width - 1, count * groups), x.dtype)
    if top + bottom >= y.shape[1] or left + right >= y.shape[2]:
        raise ValueError(f"a crop of {tuple(crop)} leaves nothing of {y.shape[1]}×{y.shape[2]}")
    share = channels // groups
    for group in range(groups):
        mine = slice(group * share, (group + 1) * share)
        source, taps = x[..., mine].reshape(-1, share), filters[..., mine].astype(x.dtype)
        target = y[..., group * count : (group + 1) * count]
        for i, j in np.ndindex(height, width):
            product = (source @ taps[i, j].T).reshape(images, rows, columns, count)
            target[:, i : i + reach : down, j : j + span : across] += product
    return add_bias(y[:, top : y.shape[1] - bottom, left : y.shape[2] - right], bias)


def pool(
    x: Array,
    *,
    pool: Sequence[float],
    method: str = "max",
    stride: Sequence[float] = (1, 1),
    pad: Sequence[float] = (0, 0, 0, 0),
) -> Array:
    """`vl_nnpool`: padding never counts, neither as a maximum nor in an average's divisor.

    Output size: floor((size + pad - pool) / stride) + 1.
    """
    size = whole("pool", pool, 2, least=1)
    top, bottom, left, right = whole("pad", pad, 4)
    if max(top, bottom) >= size[0] or max(left, right) >= size[1]:
        raise ValueError(f"a pad of {tuple(pad)} needs a larger pool than {tuple(pool)}")
    if method == "max":
        return _slide(np.maximum, _padded(x, pad, -np.inf), size, stride)
    if method != "avg":
        raise ValueError(f"no pooling method {method!r}, there are 'max' and 'avg'")
    inside = np.ones((1, *x.shape[1:3], 1), x.dtype)
    total = _slide(np.add, _padded(x, pad), size, stride)
    return total / _slide(np.add, _padded(inside, pad), size, stride)


def add_bias(y: Array, bias: Array | None) -> Array:
    """Add one number per channel, in place."""
    if bias is not None:
        if bias.size != y.shape[-1]:
            raise ValueError(f"a bias of {bias.size} numbers for {y.shape[-1]} channels")
        y += bias.reshape(-1).astype(y.dtype)
    return y


def whole(name: str, values: Sequence[float], count: int, least: int = 0) -> tuple[int, ...]:
    """MATLAB keeps whole numbers as doubles: as ints, or a `ValueError` that says what is wrong."""
    numbers = tuple(int(value) for value in values)
    if len(numbers) != count or numbers != tuple(values) or min(numbers) < least:
        wanted = f"{count} whole numbers from {least} on"
        raise ValueError(f"{name} is {tuple(values)}, it must be {wanted}")
    return numbers


def _padded(x: Array, pad: Sequence[float], fill: float = 0.0) -> Array:
    top, bottom, left, right = whole("pad", pad, 4)
    if not any(pad):
        return x
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def _windows(
    x: Array, size: Sequence[int], stride: Sequence[float], dilate: Sequence[float]
) -> Array:
    """A view N×H'×W'×h×w×C of all windows."""
    (down, across), (tall, wide) = whole("stride", stride, 2, 1), whole("dilate", dilate, 2, 1)
    extent = (size[0] - 1) * tall + 1, (size[1] - 1) * wide + 1
    _fits(extent, x)
    view = sliding_window_view(x, extent, axis=(1, 2))
    view = view[:, ::down, ::across, :, ::tall, ::wide]
    return view.transpose(0, 1, 2, 4, 5, 3)


def _multiply(windows: Array, matrix: Array, y: Array) -> None:
    """Write windows · matrix into y, a strip of rows (or some small images) at a time."""
    images, height, width = y.shape[:3]
    row = width * len(matrix)
    rows = min(height, max(1, _STRIP // row))
    batch = max(1, _STRIP // (row * height))
    for first in range(0, images, batch):
        for top in range(0, height, rows):
            strip = slice(first, first + batch), slice(top, top + rows)
            target = y[strip]
            product = windows[strip].reshape(-1, len(matrix)) @ matrix
            target[...] = product.reshape(target.shape)


def _slide(
    combine: Callable[[Array, Array], Array],
    x: Array,
    size: Sequence[int],
    stride: Sequence[float],
) -> Array:
    """Combine the elements of each window, along rows first, then along columns."""
    _fits(size, x)
    down, across = whole("stride", stride, 2, least=1)
    rows = range(0, x.shape[1] - size[0] + 1)[::down]
    columns = range(0, x.shape[2] - size[1] + 1)[::across]
    x = reduce(combine, (x[:, i : i + rows[-1] + 1 : down] for i in range(size[0])))
    return reduce(combine, (x[:, :, j : j + columns[-1] + 1 : across] for j in range(size[1])))


def _fits(size: Sequence[int], x: Array) -> None:
    if size[0] > x.shape[1] or size[1] > x.shape[2]:
        seen = f"{x.shape[1]}×{x.shape[2]}"
        raise ValueError(f"a window of {size[0]}×{size[1]} is larger than its input of {seen}")
