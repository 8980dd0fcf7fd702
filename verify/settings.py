"""The settings with which the source's layer gives what an artifact's layer gave.

For each kind of layer a literal table of what has been seen to go wrong; the oracle runs the layer
with each row, and the first that gives the values that were found is the cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from converters.checkpoint import Checkpoint, Layer
from converters.errors import ConversionError
from verify import norm_settings
from verify.attempt import Attempt, Attempts, changed, weighed
from verify.capture import Array
from verify.operators import softmax
from verify.oracle import replay
from verify.rearranged import Outcome

__all__ = ["settings"]


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


def _pool(layer: Layer) -> Attempts:
    own = layer.options.get("method", "max")
    names = {"max": "the maximum", "avg": "the average"}
    for method in names:
        if method != own:
            yield f"{names[method]} in place of {names[own]}", changed(layer, method=method)
    yield from _windows(layer)


def _windows(layer: Layer) -> Attempts:
    """Pads (top, bottom, left, right) moved, wider, or none; windows that reach beyond the end."""
    pad = tuple(int(p) for p in np.broadcast_to(layer.options.get("pad", 0), 4))
    if layer.kind == "pool":
        down, across = (int(s) - 1 for s in np.broadcast_to(layer.options.get("stride", 1), 2))
        beyond = (pad[0], pad[1] + down, pad[2], pad[3] + across)
        yield "windows that reach beyond the end (ceil_mode)", changed(layer, pad=beyond)
    moved = [(1, -1, 1, -1), (-1, 1, -1, 1)]
    wider = [more for more in itertools.product((0, 1), repeat=4) if any(more)]
    tried = [tuple(a + b for a, b in zip(pad, more, strict=True)) for more in (*moved, *wider)]
    for other in dict.fromkeys([*tried, (0, 0, 0, 0)]):
        if min(other) >= 0 and other != pad:
            words = f"pads of {', '.join(map(str, other))} in place of {', '.join(map(str, pad))}"
            yield f"{words} (top, bottom, left, right)", changed(layer, pad=other)


def _conv(layer: Layer) -> Attempts:
    if len(layer.params) > 1:
        yield "a missing bias: none is added", weighed(layer, layer.params[1], np.zeros_like)
    pad = np.broadcast_to(layer.options.get("pad", 0), 4)
    for dilate in ((2, 2), (1, 1)):
        for wide in (pad, 2 * pad):
            change = changed(layer, dilate=dilate, pad=tuple(int(p) for p in wide))
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
        yield f"a leak of {leak:g}", changed(layer, leak=leak)


def _vlad(layer: Layer) -> Attempts:
    assignment, centres = layer.params[0], layer.params[-1]
    yield "the sign of the centres", weighed(layer, centres, np.negative)
    yield "no centres: the vectors themselves are summed", weighed(layer, centres, np.zeros_like)
    yield "the same assignment to every cluster", weighed(layer, assignment, np.zeros_like)
    yield "the sign of the assignment", weighed(layer, assignment, np.negative)
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


def _total(layer: Layer) -> Attempts:
    other = {"layerTotalMaxPool": "layerTotalAvgPool", "layerTotalAvgPool": "layerTotalMaxPool"}
    words = {"layerTotalMaxPool": "the maximum", "layerTotalAvgPool": "the average"}
    kind = other[layer.kind]
    yield f"{words[kind]} in place of {words[layer.kind]}", changed(layer, kind)


_TRIED: Mapping[str, Callable[[Layer], Attempts]] = {
    "conv": _conv,
    "pool": _pool,
    "relu": _relu,
    "softmax": _softmax,
    "bnorm": norm_settings.bnorm,
    "normalize": norm_settings.normalize,
    "lrn": norm_settings.normalize,
    "layerVLAD": _vlad,
    "layerVLADv2": _vlad,
    "layerWholeL2Normalize": norm_settings.whole_l2,
    "layerTotalMaxPool": _total,
    "layerTotalAvgPool": _total,
}
