"""The layers that take several arrays together, or lay one out anew.

`dagnn.Concat`, `Sum`, `Scale`, `Crop` and `PDist` of MatConvNet 1.0-beta25, the products of
people's own classes (`Times`, `Mult`), and `Flatten` and `Axpy` of mcnExtraLayers. See
`verify.operators` for what all layers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from converters.checkpoint import Array
from verify.windows import whole

__all__ = ["add", "axpy", "concat", "crop", "flatten", "pdist", "product", "scale"]

#: MATLAB's axis of H×W×C×N -> ours of N×H×W×C.
_AXES = {1: 1, 2: 2, 3: 3, 4: 0}


def concat(*xs: Array, dim: float = 3) -> Array:
    """`vl_nnconcat` along MATLAB's axis `dim` of H×W×C×N: 1, 2, 3 or 4."""
    if dim not in _AXES:
        raise ValueError(f"dim is {dim}, it must be 1, 2, 3 or 4")
    return np.concatenate(xs, axis=_AXES[int(dim)])


def add(*xs: Array) -> Array:
    """`dagnn.Sum`: element by element, in the order of the inputs; nothing is spread."""
    if len({x.shape for x in xs}) > 1:
        raise ValueError(f"its inputs differ in shape: {_listed(xs)}")
    return reduce(np.add, xs)


def product(*xs: Array) -> Array:
    """Element by element; an axis of 1 is spread, as MATLAB's `.*` does."""
    _fit(*xs)
    return reduce(np.multiply, xs)


def scale(x: Array, multiplier: Array, bias: Array | None = None, *, hasBias: bool = True) -> Array:
    """`dagnn.Scale`: x · multiplier + bias, where an axis of 1 is spread (`bsxfun`).

    Either is a weight, C or H×W×C, or an input, N×H×W×C. Without `hasBias` no bias is added.
    """
    if hasBias and bias is None:
        raise ValueError("has hasBias but no bias")
    terms = [term for term in (multiplier, bias if hasBias else None) if term is not None]
    for term in terms:
        if term.ndim not in (1, 3, 4):
            raise ValueError(f"a weight of shape {term.shape}, it must be C or H×W×C")
        _fit(x, term)
    factor, *summands = (term.astype(x.dtype) for term in terms)
    return reduce(np.add, summands, x * factor)


def axpy(a: Array, x: Array, y: Array) -> Array:
    """`vl_nnaxpy`: a · x + y, where `a` (N×1×1×C) is spread."""
    _fit(a, x)
    return add(a * x, y)


def crop(x: Array, like: Array, *, crop: Sequence[float] = (0, 0)) -> Array:
    """`dagnn.Crop`: as much of x as `like` is high and wide.

    `crop` (y, x) is what goes above and to the left, or all there is to go if that is less; the
    rest goes below and to the right.
    """
    offsets = whole("crop", crop, 2)
    high, wide = like.shape[1:3]
    if high > x.shape[1] or wide > x.shape[2]:
        raise ValueError(f"{x.shape[1]}×{x.shape[2]} cannot be cropped to {high}×{wide}")
    top = min(offsets[0], x.shape[1] - high)
    left = min(offsets[1], x.shape[2] - wide)
    return x[:, top : top + high, left : left + wide]


def flatten(x: Array, *, axis: float = 3) -> Array:
    """`vl_nnflatten`: one image's numbers along MATLAB's axis 1, 2 or 3, the others 1.

    They are in MATLAB's order: rows fastest, then columns, then channels.
    """
    if axis not in (1, 2, 3):
        raise ValueError(f"axis is {axis}, it must be 1, 2 or 3")
    shape = [len(x), 1, 1, 1]
    shape[int(axis)] = -1
    return x.transpose(0, 3, 2, 1).reshape(shape)


def pdist(
    x: Array,
    target: Array,
    weights: Array | None = None,
    *,
    p: float = 2.0,
    noRoot: bool = False,
    aggregate: bool = True,
) -> Array:
    """`dagnn.PDist`: (sum over the channels of |x - target|^p)^(1/p), N×H×W×1.

    A target of one position stands for all. `weights` multiply the distances. With `aggregate`
    all of them, of the whole batch, are summed to one number, 1×1×1×1.
    """
    _fit(x, target)
    distance = (np.abs(x - target) ** p).sum(axis=3, keepdims=True)
    if not noRoot:
        distance = distance ** (1 / p)
    if weights is not None:
        _fit(distance, weights)
        distance = distance * weights
    y: Array = distance.sum(keepdims=True) if aggregate else distance
    return y


def _fit(*xs: Array) -> None:
    try:
        np.broadcast_shapes(*(x.shape for x in xs))
    except ValueError:
        raise ValueError(f"shapes do not fit: {_listed(xs)}") from None


def _listed(xs: Sequence[Array]) -> str:
    return ", ".join(str(shape) for shape in sorted({x.shape for x in xs}))
