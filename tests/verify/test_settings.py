"""Settings of a layer that give what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import Checkpoint, Layer, Origin
from verify.oracle import replay
from verify.rearranged import Outcome
from verify.settings import settings

Array = NDArray[Any]

RNG = np.random.default_rng(3)
TENSORS: Mapping[str, Array] = {
    "filters": RNG.standard_normal((3, 3, 4, 5)),
    "bias": RNG.standard_normal(5),
    "assignment": RNG.standard_normal((1, 1, 4, 3)),
    "minus": RNG.standard_normal((1, 1, 4, 3)),
    "k": RNG.standard_normal(3),
    "halves": RNG.standard_normal((3, 3, 2, 6)),
    "six": RNG.standard_normal(6),
    "four": RNG.standard_normal(4),
    "moments": np.stack([RNG.standard_normal(4), RNG.uniform(0.05, 0.3, 4)], axis=1),
}
LAYERS = {
    layer.name: layer
    for layer in (
        Layer("conv", "conv", ("x",), ("filters", "bias"), {"pad": (1, 1, 1, 1), "stride": (1, 1)}),
        Layer(
            "pool",
            "pool",
            ("x",),
            (),
            {"method": "max", "pool": (2, 2), "stride": (2, 2), "pad": (0, 0, 0, 0)},
        ),
        Layer("relu", "relu", ("x",), (), {"leak": 0.0}),
        Layer("l2", "normalize", ("x",), (), {"param": (8, 1e-12, 1, 0.5)}),
        Layer("lrn", "normalize", ("x",), (), {"param": (5, 1.0, 2e-1, 0.75)}),
        Layer("core", "layerVLAD", ("x",), ("assignment", "minus"), {}),
        Layer("core2", "layerVLADv2", ("x",), ("assignment", "k", "minus"), {}),
        Layer("groups", "conv", ("x",), ("halves", "six"), {"pad": (1, 1, 1, 1)}),
        Layer("bn", "bnorm", ("x",), ("four", "four", "moments"), {"epsilon": 1e-4}),
        Layer("soft", "softmax", ("x",), (), {}),
        Layer("whole", "layerWholeL2Normalize", ("x",), (), {}),
        Layer("max", "layerTotalMaxPool", ("x",), (), {}),
    )
}
NET = Checkpoint(dict(TENSORS), tuple(LAYERS.values()), {}, Origin(Path("net.mat"), "matconvnet"))
X: Array = RNG.standard_normal((2, 7, 9, 4))
SHORT: Array = X * 1e-9


def outcome(layer: str, found: Array, x: Array = X) -> Outcome:
    return Outcome([x], replay(NET, layer, [x]), found)


def with_settings(layer: str, x: Array = X, **options: Any) -> Array:
    changed = replace(LAYERS[layer], options={**LAYERS[layer].options, **options})
    others = (changed if each.name == layer else each for each in NET.layers)
    return replay(replace(NET, layers=tuple(others)), layer, [x])


def with_tensor(layer: str, name: str, factor: float) -> Array:
    return replay(replace(NET, tensors={**TENSORS, name: factor * TENSORS[name]}), layer, [X])


@pytest.mark.parametrize(
    ("layer", "options", "x", "expected"),
    [
        ("conv", {"pad": (2, 0, 2, 0)}, X, "pads of 2, 0, 2, 0 in place of 1, 1, 1, 1"),
        ("conv", {"pad": (0, 0, 0, 0)}, X, "pads of 0, 0, 0, 0 in place of 1, 1, 1, 1"),
        ("conv", {"dilate": (2, 2)}, X, "a dilation of 2"),
        ("conv", {"dilate": (2, 2), "pad": (2, 2, 2, 2)}, X, "a dilation of 2"),
        ("pool", {"method": "avg"}, X, "the average in place of the maximum"),
        ("pool", {"pad": (0, 1, 0, 1)}, X, "windows that reach beyond the end (ceil_mode)"),
        ("pool", {"pad": (1, 0, 1, 0)}, X, "pads of 1, 0, 1, 0 in place of 0, 0, 0, 0"),
        ("relu", {"leak": 0.2}, X, "a leak of 0.2"),
        ("l2", {"param": (8, 1e-6, 1, 0.5)}, SHORT, "an epsilon of 1e-06 in place of 1e-12"),
        ("lrn", {"param": (5, 1.0, 2e-1, 0.5)}, X, "LRN constants: 5, 1, 0.2, 0.5"),
        ("lrn", {"param": (3, 1.0, 2e-1, 0.75)}, X, "LRN constants: 3, 1, 0.2, 0.75"),
        # what is in no row
        ("conv", {"stride": (2, 2)}, X, ""),
        ("pool", {"pool": (3, 3)}, X, ""),
        ("relu", {"leak": 0.123}, X, ""),
        ("l2", {"param": (8, 3e-7, 1, 0.5)}, SHORT, ""),
        ("lrn", {"param": (5, 1.0, 0.123, 0.75)}, X, ""),
    ],
)
def test_a_setting_is_told(layer: str, options: dict[str, Any], x: Array, expected: str) -> None:
    found = settings(NET, layer, outcome(layer, with_settings(layer, x, **options), x))
    assert found.startswith(expected) if expected else found == ""


@pytest.mark.parametrize(
    ("layer", "tensor", "factor", "expected"),
    [
        ("conv", "bias", 0.0, "a missing bias: none is added"),
        ("core", "minus", -1.0, "the sign of the centres"),
        ("core", "minus", 0.0, "no centres: the vectors themselves are summed"),
        ("core", "assignment", 0.0, "the same assignment to every cluster"),
        ("core", "assignment", -1.0, "the sign of the assignment"),
        ("core", "assignment", 2.0, ""),
        ("conv", "bias", 2.0, ""),
    ],
)
def test_what_a_layer_does_with_its_weights_is_told(
    layer: str, tensor: str, factor: float, expected: str
) -> None:
    assert settings(NET, layer, outcome(layer, with_tensor(layer, tensor, factor))) == expected


def norm(x: Array, divisor: Callable[[Array], Array]) -> Array:
    return x / divisor(np.square(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(
    ("divisor", "expected"),
    [
        (lambda e: np.sqrt(e) + 1e-7, "an epsilon of 1e-07 in place of 1e-12"),
        (lambda e: np.sqrt(e + 1e-12), "an epsilon of 1e-12 under the root"),
        (lambda e: np.sqrt(e + 1e-7), "an epsilon of 1e-07 under the root"),
        (
            lambda e: np.sqrt(np.maximum(e, 1e-12)),
            "an epsilon of 1e-12 as the least sum of squares",
        ),
        (lambda e: np.sqrt(e) + 3e-7, ""),
    ],
)
def test_the_epsilon_of_a_whole_vector_is_told(
    divisor: Callable[[Array], Array], expected: str
) -> None:
    lengths = np.array([[1e-9], [3e-7]])
    x = RNG.standard_normal((2, 6))
    x *= lengths / np.linalg.norm(x, axis=1, keepdims=True)
    assert settings(NET, "whole", outcome("whole", norm(x, divisor), x)) == expected


def test_a_clamped_norm_is_told_over_channels_too() -> None:
    x = SHORT * np.linspace(0.1, 2000, 9)[:, None]
    found = norm(x, lambda e: np.sqrt(np.maximum(e, 1e-12)))
    assert settings(NET, "l2", outcome("l2", found, x)).endswith("as the least sum of squares")


def test_a_mean_in_place_of_the_maximum_is_told() -> None:
    found = outcome("max", X.mean(axis=(1, 2)))
    assert settings(NET, "max", found) == "the average in place of the maximum"
    assert settings(NET, "max", outcome("max", np.median(X, axis=(1, 2)))) == ""


def exponentials(x: Array, *axes: int) -> Array:
    e = np.exp(x)
    y: Array = e / e.sum(axis=axes, keepdims=True)
    return y


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ((1,), "the softmax over the rows, not the channels"),
        ((2,), "the softmax over the columns, not the channels"),
        ((1, 2), "the softmax over the positions, not the channels"),
        ((1, 2, 3), "the softmax over the whole image, not the channels"),
        ((0,), ""),
    ],
)
def test_the_axes_of_a_softmax_are_told(axes: tuple[int, ...], expected: str) -> None:
    assert settings(NET, "soft", outcome("soft", exponentials(X, *axes))) == expected


@pytest.mark.parametrize("layer", ["core", "core2"])
def test_an_assignment_over_the_positions_is_told(layer: str) -> None:
    pixels = X.reshape(2, -1, 4)
    assignment, minus = (TENSORS[name][0, 0] for name in ("assignment", "minus"))
    scores = pixels @ assignment + (TENSORS["k"] if layer == "core2" else 0)
    alpha = exponentials(scores, 1)
    residuals = pixels[:, :, None] + minus.T
    found = (alpha[..., None] * residuals).sum(axis=1)[:, None]
    expected = "the softmax over the positions, not the clusters"
    assert settings(NET, layer, outcome(layer, found)) == expected


def test_groups_that_are_mixed_up_are_told() -> None:
    right = replay(NET, "groups", [X])
    swapped = (right - TENSORS["six"])[..., [3, 4, 5, 0, 1, 2]] + TENSORS["six"]
    reads = {
        "each group reads another group's channels": [2, 3, 0, 1],
        "channels dealt out to the groups in turn": [0, 2, 1, 3],
        "": [3, 2, 1, 0],
    }
    assert settings(NET, "groups", outcome("groups", swapped)).endswith("in another order")
    for expected, order in reads.items():
        found = outcome("groups", replay(NET, "groups", [X[..., order]]))
        assert settings(NET, "groups", found) == expected


@pytest.mark.parametrize(
    ("deviation", "expected"),
    [
        (np.sqrt, "sigma taken for the variance: its square root divides"),
        (np.square, "the variance divides, not its square root"),
        (lambda s: np.sqrt(s**2 + 1e-3), "an epsilon of 0.001, which sigma holds already"),
        (None, "the image's own mean and deviation, as in training"),
        (lambda s: 2 * s, ""),
    ],
)
def test_what_a_batch_norm_divides_by_is_told(
    deviation: Callable[[Array], Array] | None, expected: str
) -> None:
    means, sigmas = TENSORS["moments"].T
    if deviation is None:
        means, sigmas = X.mean(axis=(0, 1, 2)), np.sqrt(X.var(axis=(0, 1, 2)) + 1e-4)
    else:
        sigmas = deviation(sigmas)
    found = (X - means) / sigmas * TENSORS["four"] + TENSORS["four"]
    assert settings(NET, "bn", outcome("bn", found)) == expected
