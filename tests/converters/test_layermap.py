"""The mapping engine: completeness both ways, all misfits in one error."""

from __future__ import annotations

import numpy as np
import pytest

from converters.checkpoint import Array
from converters.errors import MappingError
from converters.layermap import Rule, apply, expand

TENSORS: dict[str, Array] = {
    "w": np.arange(6.0).reshape(2, 3),
    "c": np.array([1.0, -2.0]),
    "moments": np.array([[1.0, 10.0], [2.0, 20.0]]),
}
RULES = (
    Rule("w", "kernel", "i o -> o i"),
    Rule("c", "centers", sign=-1),
    Rule("moments", "mean", part=(None, 0)),
    Rule("moments", "sigma", part=(None, 1)),
)
EXPECTED = {"kernel": (3, 2), "centers": (2,), "mean": (2,), "sigma": (2,)}


def test_a_table_fills_every_target() -> None:
    found = apply(RULES, TENSORS, EXPECTED)
    np.testing.assert_array_equal(found["kernel"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["centers"], [-1, 2])
    np.testing.assert_array_equal(found["mean"], [1, 2])
    np.testing.assert_array_equal(found["sigma"], [10, 20])


def test_rearranging_copies_nothing() -> None:
    assert np.shares_memory(apply(RULES, TENSORS, EXPECTED)["kernel"], TENSORS["w"])


def test_all_misfits_come_in_one_error() -> None:
    tensors = {"w": np.zeros((2, 3, 4)), "moments": TENSORS["moments"], "stray": np.zeros(1)}
    expected = {**EXPECTED, "sigma": (3,), "forgotten": (1,)}
    with pytest.raises(MappingError) as caught:
        apply((*RULES, Rule("moments", "surplus")), tensors, expected)
    assert caught.value.missing == ("centers (from c)", "forgotten")
    assert caught.value.unexpected == ("stray",)
    assert set(caught.value.misfits) == {"kernel", "sigma", "surplus"}
    for name in ("centers", "forgotten", "stray", "kernel", "sigma", "surplus"):
        assert name in str(caught.value)


def test_a_target_is_filled_once() -> None:
    with pytest.raises(MappingError, match="centers: filled by 2 rules"):
        apply((*RULES, Rule("c", "centers")), TENSORS, EXPECTED)


def test_an_ignored_tensor_is_ignored_by_name() -> None:
    tensors = {**TENSORS, "momentum": np.zeros(1)}
    assert set(apply(RULES, tensors, EXPECTED, ignore={"momentum"})) == set(EXPECTED)


def test_a_part_that_is_not_there_is_a_misfit() -> None:
    with pytest.raises(MappingError) as caught:
        apply([Rule("c", "x", part=(0, 0))], {"c": np.zeros(3)}, {"x": ()})
    assert list(caught.value.misfits) == ["x"]


def test_a_table_is_read_by_name_before_kind() -> None:
    table = {"conv": (Rule("{name}/w", "{name}/kernel"),), "last": (Rule("{name}/z", "z"),)}
    layers = [("one", "conv", ()), ("two", "relu", ()), ("last", "conv", ())]
    assert expand(table, layers) == (Rule("one/w", "one/kernel"), Rule("last/z", "z"))


def test_a_tensor_is_named_by_its_place_and_may_be_absent() -> None:
    table = {"conv": (Rule("{0}", "{name}/kernel"), Rule("{1}", "{name}/bias"))}
    layers = [("one", "conv", ("f", "b")), ("two", "conv", ("f",))]
    assert expand(table, layers) == (
        Rule("f", "one/kernel"),
        Rule("b", "one/bias"),
        Rule("f", "two/kernel"),
    )
