"""An array in a few numbers, so that arrays whose axes nobody knows can be held side by side.

A run's values are told apart by their signatures; only those that may be equal are then compared
number by number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from verify.capture import Array

__all__ = ["Signature", "distance", "estimate", "signature"]

#: Projections of a signature; weights that are drawn at once; values that are hashed at once.
_MARKS, _DRAWN, _BLOCK = 16, 2**16, 2**18
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))


@dataclass(frozen=True, slots=True)
class Signature:
    """What is kept of an array.

    largest   max |values|; NaN where one is NaN.
    constant  all values are the same number.
    marks     sums under products of random weights, one factor for each axis, chosen by its
              size alone: they are the same however the axes lie.
    digest    a hash of the values whatever their order: equal for transposed and reshaped copies.
    """

    shape: tuple[int, ...]
    largest: float
    constant: bool
    marks: Array
    digest: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The axes' sizes in order of size, without those of 1."""
        return tuple(sorted(size for size in self.shape if size != 1))


def signature(values: Array) -> Signature:
    """Of an array of real numbers, which must not be empty."""
    low, high = float(values.min()), float(values.max())
    return Signature(
        shape=tuple(values.shape),
        largest=max(abs(low), abs(high)) if low == low else math.nan,
        constant=low == high,
        marks=_marks(values),
        digest=_digest(values),
    )


def estimate(first: Signature, second: Signature) -> float:
    """RMS of the difference over the first's largest value, estimated; infinite where the sizes
    of the axes are others or a value is not finite.

    The expected square of a sum under independent weights of unit variance is the sum of squares.
    """
    if first.sizes != second.sizes or not math.isfinite(first.largest + second.largest):
        return math.inf
    difference = first.marks - second.marks
    rms = math.sqrt(float(difference @ difference) / (_MARKS * math.prod(first.sizes)))
    return _relative(rms, first.largest)


def distance(first: Array, second: Array) -> float:
    """max |d| over the first's largest value, for the order of axes that makes it least.

    Infinite where no order fits, and where a value is not finite.
    """
    one, other = np.squeeze(first).astype(np.float64), np.squeeze(second)
    largest, least = float(np.abs(one).max()), math.inf
    if not (math.isfinite(largest) and np.isfinite(other).all()):
        return math.inf
    for order in permutations(range(other.ndim)):
        if tuple(other.shape[axis] for axis in order) == one.shape:
            least = min(least, float(np.abs(one - other.transpose(order)).max()))
    return _relative(least, largest)


def _relative(error: float, largest: float) -> float:
    if not math.isfinite(error):
        return math.inf
    return error / largest if largest else (0.0 if error == 0 else math.inf)


def _marks(values: Array) -> Array:
    """Axis by axis from the last, each summed under its weights."""
    kept = np.squeeze(values)
    if kept.ndim == 0:
        return np.full(_MARKS, float(kept))
    *rest, last = kept.shape
    rows = kept.reshape(-1, last)
    sums: Array = np.zeros((len(rows), _MARKS))
    with np.errstate(invalid="ignore", over="ignore"):
        for start, weights in _weights(last):
            sums += rows[:, start : start + len(weights)].astype(np.float64) @ weights
        for size in reversed(rest):
            sums = sums.reshape(-1, size, _MARKS)
            part = np.zeros((len(sums), _MARKS))
            for start, weights in _weights(size):
                part += np.einsum("nsm,sm->nm", sums[:, start : start + len(weights)], weights)
            sums = part
    return sums.reshape(_MARKS)


def _weights(size: int) -> Iterator[tuple[int, Array]]:
    for start in range(0, size, _DRAWN):
        yield start, _drawn(size, start, min(_DRAWN, size - start))


@lru_cache(maxsize=64)
def _drawn(size: int, start: int, count: int) -> Array:
    return np.random.RandomState([size, start]).standard_normal((count, _MARKS))


def _digest(values: Array) -> int:
    """The sum of the values' hashes, so that their order does not count."""
    flat, total = values.reshape(-1), 0
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK].astype(np.float64) + 0.0  # -0 is 0
        bits = part.view(np.uint64)
        for factor in _MIX:
            bits = (bits ^ (bits >> np.uint64(31))) * factor
        total += int((bits ^ (bits >> np.uint64(29))).sum(dtype=np.uint64))
    return total % 2**64
