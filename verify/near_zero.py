"""L2 layers alone on vectors so short that their epsilon shows, which images hardly ever give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from converters.checkpoint import Layer
from verify.capture import Array
from verify.result import Measure

__all__ = ["allowed", "is_l2", "shortened"]

_LENGTHS = tuple(10.0**exponent for exponent in range(-9, -2))


def allowed(measure: Measure) -> Measure:
    """TensorFlow's l2_normalize clamps where MatConvNet adds: a named row, not a failure."""
    return replace(measure, limit=float("inf"), peak_limit=float("inf"))


def is_l2(layer: Layer) -> bool:
    if layer.kind == "normalize":
        _, _, alpha, beta = layer.options["param"]
        return bool(alpha == 1 and beta == 0.5)
    return layer.kind == "layerWholeL2Normalize"


def shortened(values: Array, *, whole: bool) -> Array:
    """The same vectors at the lengths 1e-9 to 1e-3, in turn."""
    axes = tuple(range(1, values.ndim)) if whole else (-1,)
    norms = np.sqrt(np.square(values.astype(np.float64)).sum(axis=axes, keepdims=True))
    lengths = np.resize(np.array(_LENGTHS), norms.size).reshape(norms.shape)
    if whole:  # one vector for each image: the batch is too small for every length
        lengths = np.full(norms.shape, 1e-9)
    return (values / np.where(norms, norms, 1) * lengths).astype(np.float32)
