"""What float32 costs at a layer: the same terms, summed in other orders than NumPy's own.

The cost is not one number, it depends on the order in which a library sums, and NumPy's own is now
and then a lucky one: most of all where a layer makes few numbers, or where BLAS multiplies a
single row (32768 products summed in many short runs: 1.2e-7 of the RMS; in orders that TensorFlow
and NumPy itself also use, 1e-6). So the largest of several counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from converters.checkpoint import Checkpoint
from verify import summation, windows
from verify.capture import Array
from verify.operators import OPERATORS, Operator, vlad_v2
from verify.oracle import replay
from verify.summation import in_lanes

__all__ = ["reordered", "rounded"]

#: Up to so many positions a convolution is summed in runs of `_RUN` products.
_FEW, _RUN = 16, 64
#: A layer of so few numbers is summed in `_ORDERS` orders, a larger one in two.
_SMALL, _ORDERS = 2**18, 8
#: Kinds of which a count is put in the order of a seed.
_SHUFFLED: Mapping[str, Operator] = MappingProxyType(
    {
        "convt": summation.convt,
        "pool": summation.pool,
        "softmax": summation.softmax,
        "sum": summation.add,
        "product": summation.product,
        "spnorm": summation.spnorm,
        "normoffset": summation.normoffset,
        "noffset": summation.normoffset,
        "bilinearsampler": summation.bilinear_sampler,
        "affinegrid": summation.affine_grid,
    }
)


def rounded(checkpoint: Checkpoint, layer: str, inputs: Sequence[Array]) -> Iterator[Array]:
    """One layer alone in float32, in NumPy's own order and in others."""
    output = replay(checkpoint, layer, inputs, np.float32)
    yield output
    (own,) = (each for each in checkpoint.layers if each.name == layer)
    weights = [checkpoint.tensors[name] for name in own.params]
    if own.kind == "conv" and inputs[0].ndim == 2:
        operators = {**OPERATORS, "conv": _in_turn}
        yield replay(checkpoint, layer, inputs, np.float32, operators=operators)
    numbers = sum(x.size for x in (*inputs, output, *weights))
    for seed in range(1, _ORDERS if numbers <= _SMALL else 2):
        yield replay(checkpoint, layer, inputs, np.float32, operators=reordered(seed))


def reordered(seed: int = 1) -> Mapping[str, Operator]:
    """The layers of `verify.operators`, by kind, with the orders that `seed` stands for."""
    orders = _Orders(seed)
    return MappingProxyType(
        {
            **OPERATORS,
            "conv": orders.conv,
            "normalize": orders.normalize,
            "lrn": orders.normalize,
            "bnorm": folded_bnorm,
            "sigmoid": summation.sigmoid,
            **{kind: partial(other, orders.order) for kind, other in _SHUFFLED.items()},
            "layerVLAD": orders.vlad,
            "layerVLADv2": orders.vlad_v2,
            "layerWholeL2Normalize": orders.whole_l2,
            "layerTotalAvgPool": orders.total_avg,
        }
    )


def _in_turn(x: Array, filters: Array, bias: Array | None = None, **settings: Any) -> Array:
    """A vector times a matrix: each product added to the sum of those before it, as a plain loop
    does it. Where the products' signs come in turns, it costs many times what shuffled ones do.
    """
    count = filters.shape[3]
    if filters.size != x[0].size * count:
        return OPERATORS["conv"](x, filters, bias, **settings)
    matrix = filters.reshape(-1, count)
    y = np.zeros((len(x), 1, 1, count), x.dtype)
    for vector, total in zip(x.reshape(len(x), -1), y.reshape(len(x), count), strict=True):
        for start in range(0, len(matrix), _RUN):
            part = slice(start, start + _RUN)
            terms = vector[part, None] * matrix[part].astype(x.dtype)
            # over the outer axis NumPy adds row by row
            total[:] = np.add.reduce(np.concatenate([total[None], terms]))
    return windows.add_bias(y, bias)


def folded_bnorm(x: Array, multiplier: Array, offset: Array, moments: Array) -> Array:
    """One product and one sum."""
    mean, sigma = moments.astype(x.dtype).T
    slope = multiplier.reshape(-1).astype(x.dtype) / sigma
    y: Array = x * slope + (offset.reshape(-1).astype(x.dtype) - mean * slope)
    return y


class _Orders:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def order(self, count: int) -> Array:
        return np.random.RandomState(self.seed + count).permutation(count)

    def conv(
        self,
        x: Array,
        filters: Array,
        bias: Array | None = None,
        *,
        pad: Sequence[float] = (0, 0, 0, 0),
        stride: Sequence[float] = (1, 1),
        dilate: Sequence[float] = (1, 1),
    ) -> Array:
        """Columns before rows, channels shuffled; for few positions in runs, one by one."""
        height, width, depth, _ = filters.shape
        groups = x.shape[3] // depth
        order = self.order(depth)

        def part(chosen: Array) -> Array:
            seen = (np.arange(groups)[:, None] * depth + chosen).ravel()
            taps = filters[:, :, chosen].astype(x.dtype).transpose(1, 0, 2, 3)
            return windows.conv(
                x[..., seen].transpose(0, 2, 1, 3),
                taps,
                pad=(*pad[2:], *pad[:2]),
                stride=stride[::-1],
                dilate=dilate[::-1],
            )

        share = max(1, _RUN // (height * width))
        total = part(order[:share])
        if total.size > _FEW * total.shape[3]:
            total = part(order)
        else:
            for start in range(share, depth, share):
                total += part(order[start : start + share])
        return windows.add_bias(total, bias).transpose(0, 2, 1, 3)

    def normalize(self, x: Array, *, param: Sequence[float]) -> Array:
        """Of all channels: divided by a root. Of a few: as it is."""
        size, kappa, alpha, beta = (float(value) for value in param)
        channels = x.shape[3]
        if size < 2 * channels or beta != 0.5:
            return OPERATORS["normalize"](x, param=param)
        energy = in_lanes(np.square(x[..., self.order(channels)]))
        y: Array = x / np.sqrt(energy * alpha + kappa)
        return y

    def vlad(self, x: Array, assignment: Array, minus_centres: Array) -> Array:
        return self.vlad_v2(x, assignment, np.zeros(assignment.shape[-1]), minus_centres)

    def vlad_v2(self, x: Array, assignment: Array, bias: Array, minus_centres: Array) -> Array:
        """Positions and channels."""
        flat = x.reshape(len(x), 1, -1, x.shape[3])
        order = self.order(x.shape[3])
        flat = flat[:, :, self.order(flat.shape[2])][..., order]
        y = vlad_v2(flat, assignment[:, :, order], bias, minus_centres[:, :, order])
        return y[..., np.argsort(order)]

    def whole_l2(self, x: Array) -> Array:
        vector = x.transpose(0, 3, 2, 1).reshape(len(x), 1, 1, -1)
        energy = in_lanes(np.square(vector[..., self.order(vector.shape[3])]))
        y: Array = vector * (1 / (np.sqrt(energy) + 1e-12))
        return y

    def total_avg(self, x: Array) -> Array:
        flat = x.reshape(len(x), 1, -1, x.shape[3])
        total = flat[:, :, self.order(flat.shape[2])].sum(axis=2, keepdims=True)
        y: Array = total / flat.shape[2]
        return y
