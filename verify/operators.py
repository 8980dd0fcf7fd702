"""MatConvNet's layers as plain functions of NumPy arrays, and the table of them.

Written from the documentation of MatConvNet 1.0-beta25 (`matlab/vl_nn*.m`, `matlab/+dagnn`) and
of NetVLAD's own layers (`layerVLAD.m`, `layerVLADv2.m`, `layerWholeL2Normalize.m` and
`layerTotal{Max,Avg}Pool.m` of Relja/netvlad). They share nothing with the converters, so that a
mistake there cannot repeat itself here and cancel out.

A function takes the layer's inputs, then its weights, then MatConvNet's settings by keyword; a
setting that the layer does not state has the default of MatConvNet's function. Data is N×H×W×C in
float32 or float64, which is also the precision of the arithmetic and of the result; weights keep
the source's axes and are cast as they are used. What does not fit is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from converters.checkpoint import Array
from verify.merging import add, axpy, concat, crop, flatten, pdist, product, scale
from verify.names.matconvnet import MERGED, SUBTRACTED
from verify.samplers import affine_grid, bilinear_sampler, roi_pool, uniform_grid
from verify.windows import add_bias, conv, convt, pool, whole

__all__ = ["NETVLAD", "OPERATORS", "VECTORS", "Operator", "registered"]

Operator = Callable[..., Array]


def relu(x: Array, *, leak: float = 0.0) -> Array:
    """`vl_nnrelu`: x where it is positive, leak·x elsewhere."""
    return np.where(x > 0, x, float(leak) * x) if leak else np.maximum(x, 0)


def normalize(x: Array, *, param: Sequence[float]) -> Array:
    """`vl_nnnormalize`: x / (kappa + alpha · sum x²)^beta, param = (N, kappa, alpha, beta).

    The sum for channel k is over [k - floor((N-1)/2), k + ceil((N-1)/2)], clipped. N >= 2C takes
    all channels: L2 normalization with epsilon kappa under the root.
    """
    size, kappa, alpha, beta = (float(value) for value in param)
    channels = x.shape[3]
    below = (int(size) - 1) // 2
    above = int(size) - 1 - below
    squares = np.square(x)
    if below >= channels - 1:
        energy = squares.sum(axis=3, keepdims=True)
    else:
        energy = squares.copy()
        for step in range(1, below + 1):
            energy[..., step:] += squares[..., :-step]
        for step in range(1, min(above, channels - 1) + 1):
            energy[..., :-step] += squares[..., step:]
    y: Array = x * (kappa + alpha * energy) ** -beta
    return y


def spnorm(x: Array, *, param: Sequence[float]) -> Array:
    """`vl_nnspnorm`: x / (1 + alpha · mean x²)^beta, param = (height, width, alpha, beta).

    The mean is `pool`'s over a window of each channel, clipped to the image; of a window's rows
    and columns beside the middle one the larger half lies below and to the right.
    """
    if len(param) != 4:
        raise ValueError(f"param is {tuple(param)}, it must be 4 numbers")
    size = whole("the window of param", param[:2], 2, least=1)
    pad = [side for length in size for side in ((length - 1) // 2, length // 2)]
    around = pool(np.square(x), pool=size, method="avg", pad=pad)
    y: Array = x * (1 + float(param[2]) * around) ** -float(param[3])
    return y


def normoffset(x: Array, *, param: Sequence[float]) -> Array:
    """`vl_nnnoffset`: x - alpha · L^beta, param = (alpha, beta); L = sum x² over the channels.

    L is at least 1e-8.
    """
    alpha, beta = (float(value) for value in param)
    energy = np.maximum(np.square(x).sum(axis=3, keepdims=True), x.dtype.type(1e-8))
    y: Array = x - alpha * energy**beta
    return y


def bnorm(x: Array, multiplier: Array, offset: Array, moments: Array) -> Array:
    """`vl_nnbnorm` at test time; moments C×2: the mean, and **sigma** (not the variance)."""
    mean, sigma = moments.astype(x.dtype).T
    return add_bias((x - mean) * (multiplier.reshape(-1).astype(x.dtype) / sigma), offset)


def softmax(x: Array) -> Array:
    """`vl_nnsoftmax`: over the channels (the last axis)."""
    y: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


def sigmoid(x: Array) -> Array:
    """`vl_nnsigmoid`: 1 / (1 + exp(-x))."""
    decay = np.exp(-np.abs(x))  # never overflows
    y: Array = np.where(x >= 0, 1, decay) / (1 + decay)
    return y


def dropout(x: Array) -> Array:
    """`vl_nndropout` at test time: nothing."""
    return x


def vlad(x: Array, assignment: Array, minus_centres: Array) -> Array:
    """`layerVLAD`: for each cluster the sum over the image of alpha · (x + (-centre)).

    alpha = softmax(x · assignment) over the clusters. Weights 1×1×D×K, output N×1×K×D.
    """
    return vlad_v2(x, assignment, np.zeros(assignment.shape[-1]), minus_centres)


def vlad_v2(x: Array, assignment: Array, bias: Array, minus_centres: Array) -> Array:
    """`layerVLADv2`: as `vlad`, with a bias of K numbers in the assignment."""
    images, _, _, channels = x.shape
    descriptors = x.reshape(images, -1, channels)
    matrix = assignment.reshape(channels, -1).astype(x.dtype)
    alpha = softmax(add_bias(descriptors @ matrix, bias))
    # alpha·(x + c) taken apart: no array of pixels × clusters × channels is made
    offsets = minus_centres.reshape(channels, -1).T.astype(x.dtype)
    core = alpha.transpose(0, 2, 1) @ descriptors + alpha.sum(axis=1)[..., None] * offsets
    y: Array = core[:, None]
    return y


def whole_l2(x: Array) -> Array:
    """`layerWholeL2Normalize`: the image as one vector, x / (sqrt(sum x²) + 1e-12).

    The vector is in MATLAB's order, rows fastest and channels slowest: after VLAD, K fastest.
    """
    vector = x.transpose(0, 3, 2, 1).reshape(len(x), 1, 1, -1)
    y: Array = vector / (np.sqrt(np.square(vector).sum(axis=-1, keepdims=True)) + 1e-12)
    return y


def total_max(x: Array) -> Array:
    """`layerTotalMaxPool`: one maximum per channel."""
    y: Array = x.max(axis=(1, 2), keepdims=True)
    return y


def total_avg(x: Array) -> Array:
    """`layerTotalAvgPool`: one mean per channel."""
    y: Array = x.mean(axis=(1, 2), keepdims=True)
    return y


def normalised(convolution: Operator) -> Operator:
    """A convolution and the batch norm behind it: the last three weights are the norm's."""

    def both(x: Array, *weights: Array, **options: Any) -> Array:
        return bnorm(convolution(x, *weights[:-3], **options), *weights[-3:])

    return both


def subtract(x: Array, mean: Array) -> Array:
    """averageImage, its first pixel where all of its pixels are the same."""
    flat = bool((mean == mean[:1, :1]).all())
    y: Array = x - (mean[0, 0] if flat else mean).astype(x.dtype)
    return y


#: MatConvNet's name for a kind of layer -> its function.
_OPERATORS: dict[str, Operator] = {
    "conv": conv,
    "convt": convt,
    "pool": pool,
    "relu": relu,
    "normalize": normalize,
    "lrn": normalize,
    "bnorm": bnorm,
    "softmax": softmax,
    "sigmoid": sigmoid,
    "dropout": dropout,
    "concat": concat,
    "sum": add,
    "product": product,
    "Axpy": axpy,
    "scale": scale,
    "crop": crop,
    "flatten": flatten,
    "spnorm": spnorm,
    "normoffset": normoffset,
    "noffset": normoffset,  # as vl_simplenn calls it
    "bilinearsampler": bilinear_sampler,
    "affinegrid": affine_grid,
    "UniformScalingGridGenerator": uniform_grid,
    "ROIPooling": roi_pool,
    "PDist": pdist,
    "layerVLAD": vlad,
    "layerVLADv2": vlad_v2,
    "layerWholeL2Normalize": whole_l2,
    "layerTotalMaxPool": total_max,
    "layerTotalAvgPool": total_avg,
    MERGED["conv"]: normalised(conv),
    MERGED["convt"]: normalised(convt),
    SUBTRACTED: subtract,
}
OPERATORS: Mapping[str, Operator] = MappingProxyType(_OPERATORS)


@contextmanager
def registered(functions: Mapping[str, Operator]) -> Iterator[None]:
    """Let functions say what custom kinds compute, or known ones, while the block runs."""
    before = dict(_OPERATORS)
    _OPERATORS.update(functions)
    try:
        yield
    finally:
        _OPERATORS.clear()
        _OPERATORS.update(before)


#: Kinds whose output is one vector per image.
VECTORS = frozenset({"layerWholeL2Normalize", "layerTotalMaxPool", "layerTotalAvgPool"})

#: Kinds by which a net is known as NetVLAD.
NETVLAD = VECTORS | {"layerVLAD", "layerVLADv2"}
