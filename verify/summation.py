"""Layers of MatConvNet with the same terms summed in another order, for `verify.rounding`.

Each function is the one of `verify.operators` under its name; `order` gives a permutation of a
count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from converters.checkpoint import Array
from verify import merging, samplers, windows

__all__ = [
    *("add", "affine_grid", "bilinear_sampler", "convt", "in_lanes", "normoffset"),
    *("pool", "product", "sigmoid", "softmax", "spnorm"),
]

Order = Callable[[int], Array]

#: Sums that are carried side by side, each one after the other, as SIMD code has them.
_LANES = 4


def in_lanes(terms: Array) -> Array:
    """The sum over the last axis, which stays with size 1."""
    total = np.zeros((*terms.shape[:-1], _LANES), terms.dtype)
    whole = terms.shape[-1] // _LANES * _LANES
    for start in range(0, whole, _LANES):
        total += terms[..., start : start + _LANES]
    for rest in range(whole, terms.shape[-1]):
        total[..., 0] += terms[..., rest]
    y: Array = total.sum(axis=-1, keepdims=True)
    return y


def add(order: Order, *xs: Array) -> Array:
    """The inputs in another order."""
    return merging.add(*(xs[place] for place in order(len(xs))))


def product(order: Order, *xs: Array) -> Array:
    """The inputs in another order."""
    return merging.product(*(xs[place] for place in order(len(xs))))


def sigmoid(x: Array) -> Array:
    """By the hyperbolic tangent."""
    y: Array = np.tanh(x * 0.5) * 0.5 + 0.5
    return y


def softmax(order: Order, x: Array) -> Array:
    """The channels in another order, and one quotient per position."""
    y: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    y *= 1 / in_lanes(y[..., order(x.shape[-1])])
    return y


def normoffset(order: Order, x: Array, *, param: Sequence[float]) -> Array:
    """The channels in another order; a power of 1/2 is a root."""
    alpha, beta = (float(value) for value in param)
    energy = np.maximum(in_lanes(np.square(x[..., order(x.shape[3])])), x.dtype.type(1e-8))
    y: Array = x - alpha * (np.sqrt(energy) if beta == 0.5 else energy**beta)
    return y


def pool(
    order: Order,
    x: Array,
    *,
    pool: Sequence[float],
    method: str = "max",
    stride: Sequence[float] = (1, 1),
    pad: Sequence[float] = (0, 0, 0, 0),
) -> Array:
    """A window's places in another order, and one quotient per place of the output."""
    if method != "avg":
        return windows.pool(x, pool=pool, method=method, stride=stride, pad=pad)
    high, wide = windows.whole("pool", pool, 2, least=1)
    down, across = windows.whole("stride", stride, 2, least=1)
    top, bottom, left, right = windows.whole("pad", pad, 4)

    def summed(maps: Array) -> Array:
        maps = np.pad(maps, ((0, 0), (top, bottom), (left, right), (0, 0)))
        rows, columns = maps.shape[1] - high + 1, maps.shape[2] - wide + 1
        places = (divmod(int(place), wide) for place in order(high * wide))
        total = sum(maps[:, i : i + rows : down, j : j + columns : across] for i, j in places)
        return np.asarray(total)

    return summed(x) * (1 / summed(np.ones((1, *x.shape[1:3], 1), x.dtype)))


def spnorm(order: Order, x: Array, *, param: Sequence[float]) -> Array:
    """A window's places in another order; divided by a power, or by a root."""
    size, (alpha, beta) = [int(length) for length in param[:2]], map(float, param[2:])
    pad = [side for length in size for side in ((length - 1) // 2, length // 2)]
    around = 1 + alpha * pool(order, np.square(x), pool=size, method="avg", pad=pad)
    y: Array = x / (np.sqrt(around) if beta == 0.5 else around**beta)
    return y


def convt(
    order: Order,
    x: Array,
    filters: Array,
    bias: Array | None = None,
    *,
    upsample: Sequence[float] = (1, 1),
    crop: Sequence[float] = (0, 0, 0, 0),
    numGroups: float = 1,
) -> Array:
    """The filters' places from the last to the first, each group's channels in another order."""
    top, bottom, left, right = windows.whole("crop", crop, 4)
    share = x.shape[3] // int(numGroups)
    seen = (np.arange(int(numGroups))[:, None] * share + order(share)).ravel()
    y = windows.convt(
        x[:, ::-1, ::-1, seen],
        filters[::-1, ::-1, :, seen],
        upsample=upsample,
        crop=(bottom, top, right, left),
        numGroups=numGroups,
    )
    return windows.add_bias(y[:, ::-1, ::-1], bias)


def bilinear_sampler(order: Order, x: Array, grid: Array) -> Array:
    """The four pixels in another order; places by one product and one sum."""
    v, u = (grid[:, i] * ((x.shape[1 + i] - 1) / 2) + (x.shape[1 + i] - 1) / 2 for i in (0, 1))
    shares = list(samplers.corners(x, v, u))
    return merging.add(*(shares[place] for place in order(4)))


def affine_grid(order: Order, x: Array, *, Ho: float, Wo: float) -> Array:
    """The three terms of a coordinate in another order."""
    numbers = x.transpose(0, 3, 2, 1).reshape(len(x), 6)[:, [[0, 1, 4], [2, 3, 5]]]
    zero, unit = np.zeros((1, 1, 1, 6), x.dtype), np.eye(6, dtype=x.dtype)
    places = [samplers.affine_grid(zero + unit[term], Ho=Ho, Wo=Wo)[0, 0] for term in (0, 1, 4)]
    terms = [numbers[:, :, term, None, None] * places[term] for term in order(3)]
    return merging.add(*terms)
