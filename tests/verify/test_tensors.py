"""Weights bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from verify.tensors import bit_for_bit

Array = NDArray[Any]
KERNEL: Array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@dataclass
class Holder:
    """What a comparison of weights asks of a runner."""

    held: dict[str, Array]
    kind: str = "onnx"

    def weights(self) -> dict[str, Array]:
        return self.held


def test_a_capture_has_no_weights_to_compare() -> None:
    assert bit_for_bit({"conv/kernel": KERNEL}, Holder({}, "capture")) == ()  # type: ignore[arg-type]


def compared(held: dict[str, Array], right: dict[str, Array] | None = None) -> Any:
    return bit_for_bit(right or {"conv/kernel": KERNEL}, Holder(held))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "problem"),
    [
        ({}, "is missing"),
        ({"conv/kernel": KERNEL[:1]}, "has shape (1, 3, 4), the source (2, 3, 4)"),
        ({"conv/kernel": KERNEL.ravel()}, "has shape (24,), the source (2, 3, 4)"),
    ],
)
def test_what_cannot_be_compared_fails(held: dict[str, Array], problem: str) -> None:
    (row,) = compared(held)
    assert (row.problem, row.passed, row.size) == (problem, False, 24)


def test_a_tensor_that_the_source_lacks_fails() -> None:
    first, second = compared({"conv/kernel": KERNEL, "conv/scale": np.ones(2)})
    assert first.passed
    assert (second.name, second.problem) == ("conv/scale", "the source has no such tensor")
    assert not second.passed


def test_one_ulp_is_a_difference_and_is_named() -> None:
    other = KERNEL.copy()
    other[1, 2, 3] = np.nextafter(other[1, 2, 3], np.float32(99))
    (row,) = compared({"conv/kernel": other})
    assert (row.different, row.worst, row.passed) == (1, (1, 2, 3), False)
    assert row.source == 23.0
    assert row.found == float(np.nextafter(np.float32(23), np.float32(99)))
    assert row.max_rel == pytest.approx(2**-19 / 23, rel=1e-6)


def test_the_worst_of_several_is_named() -> None:
    other = KERNEL.copy()
    other[0, 0, 1] += 1
    other[1, 0, 0] -= 6
    (row,) = compared({"conv/kernel": other})
    assert (row.different, row.worst, row.source, row.found) == (2, (1, 0, 0), 12.0, 6.0)
    assert row.max_rel == pytest.approx(6 / 23)


def test_a_nan_is_a_difference() -> None:
    other = KERNEL.copy()
    other[0, 1, 0] = np.nan
    (row,) = compared({"conv/kernel": other})
    assert (row.different, row.worst) == (1, (0, 1, 0))
    assert np.isnan(row.found)


def test_a_source_in_float64_is_rounded_once() -> None:
    right = KERNEL.astype(np.float64) / 3
    (row,) = compared({"conv/kernel": right.astype(np.float32)}, {"conv/kernel": right})
    assert row.passed


def test_zeros_in_the_source_are_no_unit() -> None:
    (row,) = compared({"conv/bias": np.ones(3, np.float32)}, {"conv/bias": np.zeros(3)})
    assert (row.different, row.max_rel) == (3, float("inf"))


def test_the_source_s_order_is_kept() -> None:
    right = {"b": KERNEL, "a": KERNEL, "c": KERNEL}
    assert [row.name for row in compared(dict(sorted(right.items())), right)] == ["b", "a", "c"]
