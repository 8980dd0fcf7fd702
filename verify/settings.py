"""The settings with which the source's layer gives what an artifact's layer gave.

For each kind of layer a literal table of what has been seen to go wrong; the oracle runs the layer
with each row, and the first that gives the values that were found is the cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from converters.checkpoint import Checkpoint, Layer
from converters.errors import ConversionError
from verify.capture import Array
from verify.operators import softmax
from verify.oracle import replay
from verify.rearranged import Outcome

__all__ = ["CLAMPED", "UNDER_THE_ROOT", "settings"]

Attempt = Callable[[Checkpoint, Sequence[Array]], Array]
Attempts = Iterator[tuple[str, Attempt]]

_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-14, 0.0)
_ADDED = 1e-12
#: What TensorFlow's own l2_normalize does, and what netvlad_tf_open's postL2 does.
CLAMPED = "an epsilon of 1e-12 as the least sum of squares"
UNDER_THE_ROOT = "an epsilon of 1e-12 under the root"


def settings(checkpoint: Checkpoint, name: str, outcome: Outcome) -> str:
    """The cause in words, or `""` if no row of the layer's kind gives what was found."""
    layer = next(each for each in checkpoint.layers if each.name == name)
    for words, attempt in _TRIED.get(layer.kind, _nothing)(layer):
        try:
            expected = attempt(checkpoint, outcome.inputs)
        except ConversionError:  # a window that does not fit
            continue
        if outcome.is_given_by(expected):
            return words
    return ""


def _nothing(layer: Layer) -> Attempts:
    return iter(())


def _changed(layer: Layer, kind: str = "", **options: object) -> Attempt:
    """The layer with other options."""

    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        other = replace(layer, kind=kind or layer.kind, options={**layer.options, **options})
        layers = tuple(other if each.name == layer.name else each for each in checkpoint.layers)
        wide = [np.asarray(values, np.float64) for values in inputs]
        return replay(replace(checkpoint, layers=layers), layer.name, wide)

    return attempt


def _weighed(layer: Layer, tensor: str, change: Callable[[Array], Array]) -> Attempt:
    """The layer with one of its weights changed."""

    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        own = {**checkpoint.tensors, tensor: change(checkpoint.tensors[tensor])}
        wide = [np.asarray(values, np.float64) for values in inputs]
        return replay(replace(checkpoint, tensors=own), layer.name, wide)

    return attempt


def _normalize(layer: Layer) -> Attempts:
    window, kappa, alpha, beta = layer.options["param"]
    if beta == 0.5 and alpha == 1:
        for epsilon in _EPSILONS:
            param = (window, epsilon, alpha, beta)
            yield f"an epsilon of {epsilon:g} in place of {kappa:g}", _changed(layer, param=param)
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
            yield f"LRN constants: {words}", _changed(layer, param=param)


def _whole_l2(layer: Layer) -> Attempts:
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


def _pool(layer: Layer) -> Attempts:
    own = layer.options.get("method", "max")
    names = {"max": "the maximum", "avg": "the average"}
    for method in names:
        if method != own:
            yield f"{names[method]} in place of {names[own]}", _changed(layer, method=method)
    yield from _windows(layer)


def _windows(layer: Layer) -> Attempts:
    """Pads (top, bottom, left, right) moved, wider, or none; windows that reach beyond the end."""
    pad = tuple(int(p) for p in np.broadcast_to(layer.options.get("pad", 0), 4))
    if layer.kind == "pool":
        down, across = (int(s) - 1 for s in np.broadcast_to(layer.options.get("stride", 1), 2))
        beyond = (pad[0], pad[1] + down, pad[2], pad[3] + across)
        yield "windows that reach beyond the end (ceil_mode)", _changed(layer, pad=beyond)
    moved = [(1, -1, 1, -1), (-1, 1, -1, 1)]
    wider = [more for more in itertools.product((0, 1), repeat=4) if any(more)]
    tried = [tuple(a + b for a, b in zip(pad, more, strict=True)) for more in (*moved, *wider)]
    for other in dict.fromkeys([*tried, (0, 0, 0, 0)]):
        if min(other) >= 0 and other != pad:
            words = f"pads of {', '.join(map(str, other))} in place of {', '.join(map(str, pad))}"
            yield f"{words} (top, bottom, left, right)", _changed(layer, pad=other)


def _conv(layer: Layer) -> Attempts:
    if len(layer.params) > 1:
        yield "a missing bias: none is added", _weighed(layer, layer.params[1], np.zeros_like)
    pad = np.broadcast_to(layer.options.get("pad", 0), 4)
    for dilate in ((2, 2), (1, 1)):
        for wide in (pad, 2 * pad):
            change = _changed(layer, dilate=dilate, pad=tuple(int(p) for p in wide))
            yield f"a dilation of {dilate[0]}", change
    yield from _windows(layer)
    yield "each group reads another group's channels", _grouped(layer, _other_groups)
    yield "channels dealt out to the groups in turn", _grouped(layer, _in_turn)
    yield "the groups' outputs in another order", _regrouped(layer)


def _other_groups(x: Array, groups: int) -> Array:
    """The blocks of channels in the opposite order."""
    return np.concatenate(np.split(x, groups, axis=-1)[::-1], axis=-1)


def _in_turn(x: Array, groups: int) -> Array:
    return np.concatenate([x[..., group::groups] for group in range(groups)], axis=-1)


def _grouped(layer: Layer, order: Callable[[Array, int], Array]) -> Attempt:
    """The layer on the same channels in another order."""

    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        x = np.asarray(inputs[0], np.float64)
        groups = x.shape[-1] // checkpoint.tensors[layer.params[0]].shape[2]
        return replay(checkpoint, layer.name, [order(x, groups)])

    return attempt


def _regrouped(layer: Layer) -> Attempt:
    """What each group makes stands where another's should; the bias is added after it."""

    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        groups = inputs[0].shape[-1] // checkpoint.tensors[layer.params[0]].shape[2]
        right = replay(checkpoint, layer.name, [np.asarray(inputs[0], np.float64)])
        biases = [checkpoint.tensors[name].reshape(-1) for name in layer.params[1:]]
        bias = biases[0] if biases else np.zeros(right.shape[-1])
        return _other_groups(right - bias, groups) + bias

    return attempt


def _relu(layer: Layer) -> Attempts:
    for leak in (0.0, 0.01, 0.1, 0.2, 0.3):
        yield f"a leak of {leak:g}", _changed(layer, leak=leak)


def _vlad(layer: Layer) -> Attempts:
    assignment, centres = layer.params[0], layer.params[-1]
    yield "the sign of the centres", _weighed(layer, centres, np.negative)
    yield "no centres: the vectors themselves are summed", _weighed(layer, centres, np.zeros_like)
    yield "the same assignment to every cluster", _weighed(layer, assignment, np.zeros_like)
    yield "the sign of the assignment", _weighed(layer, assignment, np.negative)
    yield "the softmax over the positions, not the clusters", _assigned_over_positions(layer)


def _assigned_over_positions(layer: Layer) -> Attempt:
    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        assignment, *bias, minus_centres = (
            np.asarray(checkpoint.tensors[name], np.float64) for name in layer.params
        )
        x = np.asarray(inputs[0], np.float64).reshape(len(inputs[0]), -1, inputs[0].shape[-1])
        scores = x @ assignment.reshape(x.shape[-1], -1) + (bias[0].reshape(-1) if bias else 0)
        alpha = softmax(scores.transpose(0, 2, 1))
        offsets = minus_centres.reshape(x.shape[-1], -1).T
        core: Array = alpha @ x + alpha.sum(axis=-1)[..., None] * offsets
        return core[:, None]

    return attempt


def _softmax(layer: Layer) -> Attempts:
    def over(*axes: int) -> Attempt:
        def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
            x = np.moveaxis(np.asarray(inputs[0], np.float64), axes, range(-len(axes), 0))
            rows = x.reshape(*x.shape[: -len(axes)], -1)
            return np.moveaxis(softmax(rows).reshape(x.shape), range(-len(axes), 0), axes)

        return attempt

    yield "the softmax over the rows, not the channels", over(1)
    yield "the softmax over the columns, not the channels", over(2)
    yield "the softmax over the positions, not the channels", over(1, 2)
    yield "the softmax over the whole image, not the channels", over(1, 2, 3)


def _bnorm(layer: Layer) -> Attempts:
    """The moments' second column is sigma: a square root of the variance and an epsilon."""
    moments = layer.params[-1]

    def sigma(change: Callable[[Array], Array]) -> Attempt:
        return _weighed(layer, moments, lambda m: np.stack([m[:, 0], change(m[:, 1])], axis=1))

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
        return _weighed(layer, layer.params[-1], lambda moments: own)(checkpoint, inputs)

    return attempt


def _total(layer: Layer) -> Attempts:
    other = {"layerTotalMaxPool": "layerTotalAvgPool", "layerTotalAvgPool": "layerTotalMaxPool"}
    words = {"layerTotalMaxPool": "the maximum", "layerTotalAvgPool": "the average"}
    kind = other[layer.kind]
    yield f"{words[kind]} in place of {words[layer.kind]}", _changed(layer, kind)


_TRIED: Mapping[str, Callable[[Layer], Attempts]] = {
    "conv": _conv,
    "pool": _pool,
    "relu": _relu,
    "softmax": _softmax,
    "bnorm": _bnorm,
    "normalize": _normalize,
    "lrn": _normalize,
    "layerVLAD": _vlad,
    "layerVLADv2": _vlad,
    "layerWholeL2Normalize": _whole_l2,
    "layerTotalMaxPool": _total,
    "layerTotalAvgPool": _total,
}
