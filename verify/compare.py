"""One array against its reference: `measure` and `histogram`, and `misfit` where neither can be.

Arrays are compared in float64, a block at a time, so that no copy of a whole layer is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from verify.capture import Array
from verify.result import Measure
from verify.tolerance import Limits

__all__ = ["Reference", "histogram", "measure", "misfit", "reference"]

#: Values that are looked at together (2 MB in float64).
_BLOCK = 2**18
#: Half an ulp of the largest value: what a float32 cannot be blamed for, however lucky NumPy was.
#: Half of it is the floor of the RMS: relu, max-pooling and the mean make no error in NumPy.
_PEAK_FLOOR = 2.0**-24
_LOWEST, _PER_DECADE = -10, 2


@dataclass(frozen=True, slots=True)
class Reference:
    """What a layer should give, and what float32 costs there.

    values      the oracle's output in float64.
    largest     max |values|; `rms` likewise.
    rounding    RMS of float32's own error, at least 2⁻²⁵ · largest.
    peak        the largest such error, at least 2⁻²⁴ · largest.
    """

    values: Array
    largest: float
    rms: float
    rounding: float
    peak: float

    @property
    def relative_rounding(self) -> float:
        """`rounding` over `rms`; 0 where all values are 0."""
        return _ratio(self.rounding, self.rms)


def reference(
    values: Array, *rounded: Array, least: Reference | None = None, unit: float = _PEAK_FLOOR
) -> Reference:
    """A layer's reference from the oracle's output in float64 and the same in float32.

    Of several float32 runs, which differ in the order of their sums, and of `least` the larger
    rounding counts. `unit` is half an ulp of 1 in another type than float32.
    """
    largest = energy = 0.0
    for right, _ in _blocks(values, values):
        largest = max(largest, float(np.abs(right).max()))
        energy += float(right @ right)
    if not math.isfinite(energy):
        largest = math.inf
    rounding, peak = unit / 2 * largest, unit * largest
    for other in rounded:
        noise = 0.0
        for right, found in _blocks(values, other):
            difference = found - right
            noise += float(difference @ difference)
            peak = max(peak, float(np.abs(difference).max()))
        rounding = max(rounding, math.sqrt(noise / values.size))
    if least:
        rounding, peak = max(rounding, least.rounding), max(peak, least.peak)
    return Reference(values, largest, math.sqrt(energy / max(1, values.size)), rounding, peak)


def misfit(right: Reference, found: Array) -> str:
    """Why `found` cannot be compared with its reference, in words; `""` if it can."""
    expected = right.values
    if found.shape != expected.shape:
        return f"has shape {found.shape}, the source {expected.shape}"
    if found.dtype.kind not in "fiub":
        return f"holds {found.dtype}, not real numbers"
    if found.size == 0:
        return "is empty"
    if not math.isfinite(right.largest):
        return "the source's own output is not finite"
    bad = ~np.isfinite(found)
    if count := int(np.count_nonzero(bad)):
        index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        return f"{count} of {found.size} values are NaN or infinite, the first at {index}"
    return ""


def measure(
    right: Reference, found: Array, limits: Limits, allowed: float | None = None
) -> Measure:
    """Every metric of `found` against its reference. `misfit` must have found nothing.

    `limits` are in units of the rounding; `allowed`, the largest |d|, takes their place.
    """
    if allowed is not None:
        limits = Limits(math.inf, _ratio(allowed, right.peak))
    worst, where, start = -1.0, 0, 0
    noise = product = energy = 0.0
    for expected, values in _blocks(right.values, found):
        difference = values - expected
        product += float(values @ expected)
        energy += float(values @ values)
        noise += float(difference @ difference)
        np.abs(difference, out=difference)
        place = int(difference.argmax())
        if difference[place] > worst:
            worst, where = float(difference[place]), start + place
        start += len(difference)
    rms = math.sqrt(noise / found.size)
    index = tuple(int(i) for i in np.unravel_index(where, found.shape))
    return Measure(
        max_abs=worst,
        max_rel=_ratio(worst, right.largest),
        rms_rel=_ratio(rms, right.rms),
        cosine=_cosine(product, right.rms * math.sqrt(found.size), math.sqrt(energy)),
        snr_db=_decibels(right.rms, rms),
        worst=index,
        reference=float(right.values[index]),
        found=float(found[index]),
        roundings=_ratio(rms, right.rounding),
        limit=limits.rms,
        peak=_ratio(worst, right.peak),
        peak_limit=limits.peak,
    )


def histogram(right: Reference, found: Array) -> tuple[int, ...]:
    """Counts of log10(|d| / max|reference|) as `LayerResult.histogram` has them."""
    bins = -_LOWEST * _PER_DECADE
    counts = np.zeros(bins, np.int64)
    scale = right.largest or 1.0
    with np.errstate(divide="ignore"):
        for expected, values in _blocks(right.values, found):
            # float32 is enough to tell a bin, and its logarithm ten times as fast
            relative = (np.abs(values - expected) / scale).astype(np.float32)
            place = np.log(relative) * np.float32(_PER_DECADE / math.log(10)) + bins
            counts += np.bincount(np.clip(place, 0, bins - 1).astype(np.int64), minlength=bins)
    return tuple(int(count) for count in counts)


def _blocks(expected: Array, found: Array) -> Iterator[tuple[Array, Array]]:
    """Both arrays as float64 vectors in C order, a block at a time, however they lie in memory."""
    inner = math.prod(expected.shape[1:])
    if inner > _BLOCK:
        for one, other in zip(expected, found, strict=True):
            yield from _blocks(one, other)
        return
    rows = max(1, _BLOCK // max(1, inner))
    for start in range(0, len(expected), rows):
        part = slice(start, start + rows)
        yield (
            expected[part].reshape(-1).astype(np.float64, copy=False),
            found[part].reshape(-1).astype(np.float64, copy=False),
        )


def _ratio(value: float, unit: float) -> float:
    if value == 0:
        return 0.0
    return value / unit if unit else math.inf


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 20 * math.log10(signal / noise) if signal else -math.inf


def _cosine(product: float, one: float, other: float) -> float:
    """Of two vectors of zeros: 1; of one: 0."""
    if one == 0 or other == 0:
        return float(one == other)
    return max(-1.0, min(1.0, product / (one * other)))
