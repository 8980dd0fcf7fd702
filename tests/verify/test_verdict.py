"""What is wrong first, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.mini import mini
from verify.candidate import Candidate
from verify.reference import weights_of
from verify.result import LayerResult, Measure, WeightResult
from verify.tolerance import Tolerance
from verify.verdict import judge

Array = NDArray[Any]

SOURCE = mini()
RIGHT = weights_of(SOURCE)
READS = {"input": ("image",), **{layer.name: layer.inputs for layer in SOURCE.layers}}
NAMES = tuple(READS)


@dataclass
class Holder:
    """What is asked of a runner."""

    held: Mapping[str, Array] = field(default_factory=lambda: RIGHT)
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: READS)
    layers: tuple[str, ...] = NAMES
    kind: str = "onnx"

    def weights(self) -> Mapping[str, Array]:
        return self.held


def measure(roundings: float) -> Measure:
    return Measure(0, 0, 0, 1, 99, (0,), 0, 0, roundings, 4, roundings, 6)


def row(layer: str, problem: str = "", roundings: float = 1) -> LayerResult:
    return LayerResult(layer, (1,), measure(roundings), None, problem)


def rows(**problems: str) -> list[LayerResult]:
    return [row(name, problems.get(name, "")) for name in NAMES]


def candidate(
    results: Sequence[LayerResult] = (),
    weights: Sequence[WeightResult] = (),
    runner: Holder | None = None,
    causes: Mapping[str, str] | None = None,
) -> Candidate:
    return Candidate(
        "it",
        runner or Holder(),  # type: ignore[arg-type]
        Tolerance(),
        weights=weights,
        results=list(results),
        causes=dict(causes or {}),
    )


def wrong(name: str, problem: str = "") -> WeightResult:
    return WeightResult(name, 9, 0 if problem else 2, 0.5, (1,), 1.0, 2.0, problem)


def test_nothing_compared_is_no_pass() -> None:
    found = judge(SOURCE, candidate(), RIGHT)
    assert (found.passed, found.sentence) == (False, "it: nothing was compared")


def test_all_good_is_counted() -> None:
    good = [WeightResult("conv1_1/kernel", 9, 0)]
    found = judge(SOURCE, candidate(rows(), good), RIGHT)
    assert found.passed
    assert found.sentence == "it is the source: 36 layers, 1 tensors"


@pytest.mark.parametrize(
    ("results", "weights", "layer", "tensor", "sentence"),
    [
        (rows(conv3_1="is empty", conv2_1="no"), (), "conv2_1", "", "at conv2_1: no"),
        (rows(), [wrong("conv2_2/kernel")], "conv2_2", "conv2_2/kernel", "2 of 9 values"),
        (
            rows(conv3_1="no"),
            [wrong("conv4_1/bias")],
            "conv3_1",
            "",
            "at conv3_1: no",
        ),
        (
            rows(conv3_1="no"),
            [wrong("input/mean")],
            "input",
            "input/mean",
            "at input: 2 of 9 values of input/mean differ (at (1,): 1 is 2)",
        ),
        (rows(input="no"), [wrong("WPCA/kernel")], "input", "", "at input: no"),
        ([*rows(), row("softmax", "extra")], (), "softmax", "", "at softmax: extra"),
        ([*rows(finalL2="no"), row("softmax", "extra")], (), "finalL2", "", "at finalL2: no"),
        ([row("conv1_1", roundings=4.5)], (), "conv1_1", "", "at conv1_1"),
        ((), [wrong("scale", "the source has no such tensor")], "scale", "scale", "no such tensor"),
    ],
)
def test_the_first_in_the_source_s_order_is_named(
    results: Sequence[LayerResult],
    weights: Sequence[WeightResult],
    layer: str,
    tensor: str,
    sentence: str,
) -> None:
    found = judge(SOURCE, candidate(results, weights), RIGHT)
    assert (found.passed, found.first_bad_layer, found.tensor) == (False, layer, tensor)
    assert sentence in found.sentence


def test_the_weight_s_cause_comes_before_the_layer_s() -> None:
    held = {**RIGHT, "conv2_1/bias": np.zeros_like(RIGHT["conv2_1/bias"])}
    artifact = candidate(
        rows(conv2_1="no"), [wrong("conv2_1/bias")], Holder(held), {"conv2_1": "a leak"}
    )
    assert judge(SOURCE, artifact, RIGHT).cause == "a missing bias: all are 0"
    artifact = candidate(rows(conv2_1="no"), causes={"conv2_1": "a leak", "conv3_1": "else"})
    found = judge(SOURCE, artifact, RIGHT)
    assert (found.cause, found.sentence) == (
        "a leak",
        "it differs from the source at conv2_1: no; a leak",
    )


def test_a_weight_that_is_not_there_is_the_cause() -> None:
    held = {name: values for name, values in RIGHT.items() if name != "WPCA/bias"}
    artifact = candidate(rows(), [wrong("WPCA/bias", "is missing")], Holder(held))
    found = judge(SOURCE, artifact, RIGHT)
    assert (found.first_bad_layer, found.tensor) == ("WPCA", "WPCA/bias")
    assert found.cause == "a missing bias"


def test_a_weight_of_another_shape_may_have_its_axes_permuted() -> None:
    held = {**RIGHT, "conv3_1/kernel": RIGHT["conv3_1/kernel"].transpose(3, 2, 0, 1)}
    artifact = candidate(rows(), [wrong("conv3_1/kernel", "has shape")], Holder(held))
    assert judge(SOURCE, artifact, RIGHT).cause == "the axes permuted as (3, 2, 0, 1)"


def test_a_layer_that_reads_another_is_bad_whatever_its_values() -> None:
    reads = {**READS, "conv3_2": ("conv3_1",)}
    found = judge(SOURCE, candidate(rows(), runner=Holder(reads=reads)), RIGHT)
    assert (found.passed, found.first_bad_layer) == (False, "conv3_2")
    assert found.cause == "reads conv3_1, in the source relu3_1"
    assert found.sentence == (
        "it differs from the source at conv3_2; reads conv3_1, in the source relu3_1"
    )


def test_what_a_layer_reads_is_not_asked_where_nothing_of_it_was_compared() -> None:
    reads = {**READS, "conv3_2": ("conv3_1",)}
    few = [row("preL2"), row("finalL2")]
    assert judge(SOURCE, candidate(few, runner=Holder(reads=reads)), RIGHT).passed


def test_the_order_is_the_cause_before_what_it_makes_of_the_reads() -> None:
    reads = {**READS, "pool1": ("relu1_2",), "relu1_2": ("conv1_2",), "conv2_1": ("pool1",)}
    layers = list(NAMES)
    layers[4:6] = ["relu1_2", "pool1"]
    artifact = candidate(rows(), runner=Holder(reads=reads, layers=tuple(layers)))
    found = judge(SOURCE, artifact, RIGHT)
    assert found.first_bad_layer == "pool1"
    assert found.cause == "the order: relu1_2 runs before pool1, in the source behind it"
