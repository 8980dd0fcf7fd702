"""MatConvNet's stock CPU build: its `vl_nnnormalize` does not call powf, it approximates it.

MatConvNet's `matlab/src/bits/impl/normalize_cpu.cpp` defines VL_NNNORMALIZE_FAST, and with it a
`fast_pow` of two cubic polynomials, which for a power of -0.5 is up to 2.2e-3 of the value off.
Without that macro it has the exact power. The constants here are that file's; what is computed
with them is written anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from converters.checkpoint import Array
from verify.operators import OPERATORS, Operator

__all__ = ["STOCK_CPU", "fast_pow", "normalize"]

#: log2(1 + m) and 2^r - 1 on [0, 1) as cubics without a constant: of x, x², x³.
_LOG2 = (1.442695040888963, -0.606737602222409, 0.164042561333445)
_EXP2 = (0.693147180559945, 0.227411277760219, 0.079441541679836)
#: A float32's exponent bias in its place, above the 23 bits of the mantissa.
_MANTISSA = 23
_ONE = np.int32(127 << _MANTISSA)


def fast_pow(x: Array, exponent: float) -> Array:
    """x^exponent in float32, as the stock build has it; x positive and normal, of any shape."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32) - _ONE
    fraction = ((bits & ((1 << _MANTISSA) - 1)) + _ONE).view(np.float32) - np.float32(1)
    whole = (bits >> _MANTISSA).astype(np.float32)
    power = np.float32(exponent) * (whole + _cubic(fraction, _LOG2))
    below = np.floor(power)
    scaled = (below + _cubic(power - below, _EXP2)) * np.float32(1 << _MANTISSA)
    y: Array = (scaled.astype(np.int32) + _ONE).view(np.float32)
    return y


def _cubic(x: Array, factors: Sequence[float]) -> Array:
    one, two, three = (np.float32(factor) for factor in factors)
    squares = x * x
    y: Array = x * one + squares * two + squares * x * three
    return y


def normalize(x: Array, *, param: Sequence[float]) -> Array:
    """`vl_nnnormalize` of the stock CPU build: N×H×W×C in and out, float32 inside.

    The sum of squares is carried on from channel to channel, as upstream does.
    """
    size, kappa, alpha, beta = (float(value) for value in param)
    channels = x.shape[3]
    before, behind = (int(size) - 1) // 2, int(size) - 1 - (int(size) - 1) // 2
    values = x.astype(np.float32)
    squares = np.square(values)
    energy = np.zeros(x.shape[:3], np.float32)
    scale = np.empty_like(values)
    for channel in range(-behind, channels):
        if channel + behind < channels:
            energy += squares[..., channel + behind]
        if channel - before - 1 >= 0:
            energy -= squares[..., channel - before - 1]
        if channel >= 0:
            total = np.float32(kappa) + np.float32(alpha) * energy
            scale[..., channel] = fast_pow(total, -beta)
    return (values * scale).astype(x.dtype)


#: The oracle's operators with this `normalize`: kind of layer -> function.
STOCK_CPU: Mapping[str, Operator] = MappingProxyType(
    {**OPERATORS, "normalize": normalize, "lrn": normalize}
)
