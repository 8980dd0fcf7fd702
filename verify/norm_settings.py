"""What has been seen to go wrong with norms: epsilons, constants, and what divides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from converters.checkpoint import Checkpoint, Layer
from verify.attempt import Attempt, Attempts, changed, weighed
from verify.capture import Array
from verify.oracle import replay

__all__ = ["CLAMPED", "UNDER_THE_ROOT", "bnorm", "normalize", "whole_l2"]

_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-14, 0.0)
_ADDED = 1e-12
#: What TensorFlow's own l2_normalize does, and what netvlad_tf_open's postL2 does.
CLAMPED = "an epsilon of 1e-12 as the least sum of squares"
UNDER_THE_ROOT = "an epsilon of 1e-12 under the root"


def normalize(layer: Layer) -> Attempts:
    window, kappa, alpha, beta = layer.options["param"]
    if beta == 0.5 and alpha == 1:
        for epsilon in _EPSILONS:
            param = (window, epsilon, alpha, beta)
            yield f"an epsilon of {epsilon:g} in place of {kappa:g}", changed(layer, param=param)
        yield CLAMPED, _over_channels(lambda energy: np.sqrt(np.maximum(energy, _ADDED)))
        return
    for param in itertools.product(
        dict.fromkeys((window, 3, 5, 7, 9)),
        dict.fromkeys((kappa, 1.0, 2.0)),
        dict.fromkeys((alpha, alpha * window, alpha / window, 1e-4, 2e-5, 1e-3)),
        dict.fromkeys((beta, 0.5, 0.75, 1.0)),
    ):
        if param != (window, kappa, alpha, beta):
            words = ", ".join(f"{value:g}" for value in param)
            yield f"LRN constants: {words}", changed(layer, param=param)


def whole_l2(layer: Layer) -> Attempts:
    def divided(by: Callable[[Array], Array]) -> Attempt:
        def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
            # of unit length, in the layer's own order
            unit = replay(checkpoint, layer.name, [_unit(inputs[0])])
            return _over_channels(by)(checkpoint, [unit * _lengths(inputs[0])])

        return attempt

    for epsilon in _EPSILONS:
        yield (
            f"an epsilon of {epsilon:g} in place of {_ADDED:g}",
            divided(lambda energy, e=epsilon: np.sqrt(energy) + e),  # type: ignore[misc]
        )
    for epsilon in (_ADDED, *_EPSILONS):
        yield (
            f"an epsilon of {epsilon:g} under the root",
            divided(lambda energy, e=epsilon: np.sqrt(energy + e)),  # type: ignore[misc]
        )
    yield CLAMPED, divided(lambda energy: np.sqrt(np.maximum(energy, _ADDED)))


def _over_channels(divisor: Callable[[Array], Array]) -> Attempt:
    """x divided by what `divisor` makes of the sum of squares over the last axis."""

    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        x = np.asarray(inputs[0], np.float64)
        by = divisor(np.square(x).sum(axis=-1, keepdims=True))
        scaled: Array = x / np.where(by, by, 1)
        return scaled

    return attempt


def _lengths(x: Array) -> Array:
    """Of each image as one vector, N×1."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    lengths: Array = np.sqrt(np.square(flat).sum(axis=1, keepdims=True))
    return lengths


def _unit(x: Array) -> Array:
    lengths = _lengths(x).reshape(-1, *[1] * (x.ndim - 1))
    unit: Array = np.asarray(x, np.float64) / np.where(lengths, lengths, 1)
    return unit


def bnorm(layer: Layer) -> Attempts:
    """The moments' second column is sigma: a square root of the variance and an epsilon."""
    moments = layer.params[-1]

    def sigma(change: Callable[[Array], Array]) -> Attempt:
        return weighed(layer, moments, lambda m: np.stack([m[:, 0], change(m[:, 1])], axis=1))

    yield "sigma taken for the variance: its square root divides", sigma(np.sqrt)
    yield "the variance divides, not its square root", sigma(np.square)
    for epsilon in (1e-5, 1e-4, 1e-3, 1e-2):
        again = sigma(lambda s, e=epsilon: np.sqrt(np.square(s) + e))  # type: ignore[misc]
        yield f"an epsilon of {epsilon:g}, which sigma holds already", again
    yield "the image's own mean and deviation, as in training", _as_in_training(layer)


def _as_in_training(layer: Layer) -> Attempt:
    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        x = np.asarray(inputs[0], np.float64).reshape(-1, inputs[0].shape[-1])
        epsilon = float(layer.options.get("epsilon", 1e-4))
        own = np.stack([x.mean(axis=0), np.sqrt(x.var(axis=0) + epsilon)], axis=1)
        return weighed(layer, layer.params[-1], lambda moments: own)(checkpoint, inputs)

    return attempt
