"""Limits in units of float32's rounding."""

from __future__ import annotations

import math

import pytest

from converters.errors import ConversionError
from verify.tolerance import ONEDNN, Limits, Tolerance


def test_the_limits_are_those_that_are_documented() -> None:
    assert Tolerance().own("conv1_1") == Limits(4.0, 6.0)
    assert Tolerance().inherited("conv1_1") == Limits(16.0, 16.0)


def test_onednn_doubles_the_own_limit_alone() -> None:
    wide = Tolerance(factor=ONEDNN)
    assert wide.own("conv1_1") == Limits(8.0, 12.0)
    assert wide.inherited("conv1_1") == Limits(16.0, 16.0)


def test_a_layer_s_own_limit_takes_the_place_of_both() -> None:
    tolerance = Tolerance.parse(["vlad:core:20"])
    assert tolerance.own("vlad:core") == Limits(20.0, 20.0)
    assert tolerance.inherited("vlad:core") == Limits(80.0, 80.0)
    assert tolerance.own("conv1_1") == Limits(4.0, 6.0)


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        (Tolerance(), Limits(4.0, 6.0)),
        (Tolerance(atol=1e-3), Limits(1000.0, 100.0)),
        (Tolerance(rtol=1e-3), Limits(2000.0, 200.0)),
        (Tolerance(atol=1e-3, rtol=1e-3), Limits(2000.0, 200.0)),
        (Tolerance(atol=1e-9), Limits(4.0, 6.0)),
    ],
)
def test_atol_and_rtol_only_widen(tolerance: Tolerance, expected: Limits) -> None:
    found = tolerance.widened(Limits(4.0, 6.0), largest=2.0, rounding=1e-6, peak=1e-5)
    assert math.isclose(found.rms, expected.rms)
    assert math.isclose(found.peak, expected.peak)


def test_a_layer_of_zeros_has_no_unit_to_widen_by() -> None:
    assert Tolerance(atol=1.0).widened(Limits(4, 6), 0.0, 0.0, 0.0) == Limits(4, 6)


@pytest.mark.parametrize("text", ["conv1_1", "conv1_1:x", ":3", "conv1_1:-1", "conv1_1:0", ""])
def test_a_tolerance_is_a_name_and_a_number(text: str) -> None:
    with pytest.raises(ConversionError, match="NAME:VALUE"):
        Tolerance.parse([text])
