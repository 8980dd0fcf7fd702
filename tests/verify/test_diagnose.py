"""Hypotheses on a tensor: each with one that it explains and one that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from verify import diagnose
from verify.diagnose import Suspect

Array = NDArray[Any]

RNG = np.random.default_rng(4)
SOURCE: dict[str, Array] = {
    name: RNG.standard_normal(shape).astype(np.float32)
    for name, shape in {
        "input/mean": (3,),
        "conv1/kernel": (3, 3, 3, 4),
        "conv1/bias": (4,),
        "conv2/kernel": (3, 3, 4, 4),
        "conv2/bias": (4,),
        "conv3/kernel": (3, 3, 4, 4),
        "conv3/bias": (4,),
        "vlad:core/assignment": (4, 3),
        "vlad:core/centers": (4, 3),
        "WPCA/kernel": (12, 5),
        "WPCA/bias": (5,),
    }.items()
}


def cause(name: str, change: Callable[[Array], Array]) -> str:
    """What is said of one changed tensor, all others being the source's."""
    artifact = {**SOURCE, name: np.asarray(change(SOURCE[name].copy()))}
    return diagnose.weights(Suspect(name, SOURCE[name], artifact[name], SOURCE, artifact))


def one(index: tuple[int, ...], function: Callable[[Any], Any]) -> Callable[[Array], Array]:
    def change(values: Array) -> Array:
        values[index] = function(values[index])
        return values

    return change


def swapped(values: Array) -> Array:
    values[..., [0, 2]] = values[..., [2, 0]]
    return values


def d_fastest(values: Array) -> Array:
    return values.reshape(4, 3, -1).transpose(1, 0, 2).reshape(values.shape)


def k_fastest_twice(values: Array) -> Array:
    return values.reshape(3, 4, -1).transpose(1, 0, 2).reshape(values.shape)


def negated(values: Array) -> Array:
    values[..., 2] *= -1
    return values


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("conv1/bias", np.zeros_like, "a missing bias: all are 0"),
        ("input/mean", np.zeros_like, "a missing mean: all are 0"),
        ("conv2/kernel", np.zeros_like, "zeros: all are 0"),
        ("input/mean", lambda v: v[::-1], "the mean is in the order BGR"),
        ("input/mean", lambda v: v + np.float32(0.5), "a shifted mean: by 0.5, 0.5, 0.5"),
        ("vlad:core/centers", np.negative, "the sign of all values"),
        ("conv2/kernel", negated, "the sign of output 2"),
        ("conv1/kernel", lambda v: v[:, :, ::-1], "the channel order BGR in place of RGB"),
        ("WPCA/kernel", d_fastest, "the cluster order: D fastest where the source has K fastest"),
        ("WPCA/kernel", k_fastest_twice, "the cluster order, turned twice"),
        ("conv2/kernel", lambda v: v.transpose(1, 0, 2, 3), "height and width swapped"),
        ("conv2/kernel", lambda v: v.transpose(0, 1, 3, 2), "the axes in and out swapped"),
        ("conv1/kernel", lambda v: v.transpose(3, 2, 0, 1), "the axes permuted as (3, 2, 0, 1)"),
        ("WPCA/kernel", np.transpose, "the axes permuted as (1, 0)"),
        (
            "conv2/kernel",
            lambda v: v[::-1, ::-1],
            "the kernel turned by 180 degrees, convolution for correlation",
        ),
        ("conv2/kernel", swapped, "outputs swapped: 0, 2"),
        ("conv3/kernel", lambda v: v.astype(np.float16).astype(np.float32), "rounded to float16"),
        ("conv2/kernel", lambda v: v * np.float32(1.5), "a scale of 1.5"),
        ("conv2/kernel", lambda v: SOURCE["conv3/kernel"], "these are the values of conv3/kernel"),
    ],
)
def test_a_hypothesis_that_gives_the_values_is_the_cause(
    name: str, change: Callable[[Array], Array], expected: str
) -> None:
    assert cause(name, change) == expected


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("conv1/bias", one((2,), lambda v: 0)),  # one value is missing, not the bias
        ("vlad:core/centers", one((0, 0), lambda v: -v)),  # a column in part
        ("conv2/kernel", lambda v: v[:, :, ::-1]),  # four channels have no colours
        ("conv1/kernel", one((0, 0, 0, 0), lambda v: v + 1)),
        ("WPCA/kernel", lambda v: np.roll(v, 1, axis=0)),
        ("conv1/kernel", lambda v: v[::-1]),  # turned by height alone
        ("conv2/kernel", lambda v: np.repeat(v[..., :1], 4, axis=3)),  # no output twice
        ("conv2/kernel", lambda v: np.round(v, 2)),
        ("conv2/kernel", lambda v: v + np.float32(0.25)),
        ("conv2/kernel", one((1, 1, 1, 1), lambda v: np.nan)),
        ("conv2/kernel", lambda v: v[:2]),  # another shape that no axes give
    ],
)
def test_what_no_hypothesis_gives_has_no_cause(name: str, change: Callable[[Array], Array]) -> None:
    assert cause(name, change) == ""


def test_another_net_is_told_by_its_other_tensors() -> None:
    artifact = {name: values + 1 for name, values in SOURCE.items()}
    name = "conv1/kernel"
    suspect = Suspect(name, SOURCE[name], artifact[name], SOURCE, artifact)
    assert diagnose.weights(suspect) == "the weights of another net: 11 of 11 tensors are others"
    few = {**SOURCE, **{n: artifact[n] for n in ("conv1/kernel", "conv2/kernel", "conv3/kernel")}}
    assert diagnose.weights(Suspect(name, SOURCE[name], few[name], SOURCE, few)) == ""
