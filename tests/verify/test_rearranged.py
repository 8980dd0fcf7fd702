"""Hypotheses on a layer's output: each with one that it explains and one that it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from verify.rearranged import Outcome, rearranged

Array = NDArray[Any]

RNG = np.random.default_rng(8)
IMAGE: Array = RNG.standard_normal((2, 5, 5, 6))
CORE: Array = RNG.standard_normal((2, 1, 3, 4))
VECTOR: Array = RNG.standard_normal((2, 12))
#: Clusters fastest, as NetVLAD's vector.
FLAT: Array = CORE.transpose(0, 3, 2, 1).reshape(2, 12)
D_FASTEST = "the cluster order: D fastest where the source has K fastest"


@pytest.mark.parametrize(
    ("fed", "right", "found", "expected"),
    [
        (IMAGE, np.maximum(IMAGE, 0), IMAGE, "what it reads is passed on as it is"),
        (VECTOR, IMAGE, -IMAGE, "the sign of all values"),
        (VECTOR, IMAGE, IMAGE.transpose(0, 2, 1, 3), "height and width swapped"),
        (VECTOR, IMAGE[:, :4], IMAGE[:, :4].transpose(0, 2, 1, 3), "height and width swapped"),
        (VECTOR, CORE, CORE.transpose(0, 1, 3, 2).reshape(CORE.shape), D_FASTEST),
        (CORE, FLAT, CORE.reshape(2, 12), D_FASTEST),
        (VECTOR, IMAGE, IMAGE[..., [0, 4, 2, 3, 1, 5]], "outputs swapped: 1, 4"),
        (IMAGE, VECTOR, VECTOR[:, ::-1], "outputs swapped: 0, 1, 2, 3, 4, 5"),
        (IMAGE, VECTOR, VECTOR * 1.5, "a scale of 1.5"),
        (VECTOR, IMAGE, np.minimum(IMAGE, 0.5), "values cut off at 0.5"),
        # nothing is explained
        (IMAGE, np.maximum(IMAGE, 0), IMAGE + 1e-3, ""),
        (VECTOR, IMAGE, np.abs(IMAGE), ""),
        (VECTOR, IMAGE, IMAGE[:, ::-1], ""),
        (IMAGE, VECTOR, np.roll(VECTOR, 1, axis=0), ""),
        (IMAGE, VECTOR, VECTOR + 0.1, ""),
        (IMAGE, VECTOR, np.full_like(VECTOR, np.nan), ""),
        (IMAGE, VECTOR, np.zeros_like(VECTOR), ""),
        (IMAGE, VECTOR, VECTOR[:, :7], ""),
        # a rounding error is no scale, sign or cut
        (IMAGE, VECTOR, VECTOR * (1 + 2e-7), ""),
    ],
)
def test_the_cause_is_what_gives_the_values(
    fed: Array, right: Array, found: Array, expected: str
) -> None:
    assert rearranged(Outcome([fed], right, found)) == expected


def test_float32_is_near_enough() -> None:
    found = (IMAGE[..., ::-1]).astype(np.float32)
    assert rearranged(Outcome([VECTOR], IMAGE, found)).startswith("outputs swapped: 0, 1")


def test_the_right_values_must_be_further_away() -> None:
    outcome = Outcome([VECTOR], np.ones((1, 4)), np.full((1, 4), 1 + 1e-6))
    assert not outcome.is_given_by(np.full((1, 4), 1 + 3e-6))
    assert outcome.is_given_by(np.full((1, 4), 1 + 1.1e-6))
