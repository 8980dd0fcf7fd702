"""The witness on runners in memory: pairing by name, own and inherited error, the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from converters.checkpoint import Checkpoint
from converters.mini import mini
from verify import oracle
from verify.candidate import Failure
from verify.capture import Array, Images
from verify.reference import weights_of
from verify.result import Verdict
from verify.runners import ONEDNN
from verify.tolerance import Tolerance
from verify.witness import NEAR_ZERO, witness

SOURCE = mini()
LAYERS = ("input", *(layer.name for layer in SOURCE.layers))
IMAGES = {"noise": np.random.default_rng(5).integers(0, 256, (2, 32, 48, 3), np.uint8)}


@dataclass
class InMemory:
    """The net in float32 with a fault in it."""

    checkpoint: Checkpoint = SOURCE
    kind: str = "onnx"
    layers: tuple[str, ...] = LAYERS
    notes: tuple[str, ...] = ()
    change: Callable[[str, Array], Array] = field(default=lambda layer, values: values)

    def run(self, images: Images) -> Iterator[tuple[str, Array]]:
        for name, values in oracle.execute(self.checkpoint, images, np.float32):
            if name in self.layers:
                yield name, self.change(name, values)

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        return self.change(layer, oracle.replay(self.checkpoint, layer, inputs, np.float32))

    def deployed(self, images: Images) -> Mapping[str, Array]:
        return dict(list(InMemory.run(self, images))[-1:])

    def weights(self) -> Mapping[str, Array]:
        return weights_of(self.checkpoint)


def verdict(runner: InMemory, **options: Any) -> Verdict:
    report = witness(SOURCE, {"it": runner}, IMAGES, **options)
    return report.first_failure or Verdict(True)


def with_tensor(name: str, function: Callable[[Array], Array]) -> InMemory:
    tensors = {**SOURCE.tensors, name: function(SOURCE.tensors[name].copy())}
    return InMemory(replace(SOURCE, tensors=tensors))


def test_a_faithful_artifact_passes_in_every_layer() -> None:
    report = witness(SOURCE, {"it": InMemory()}, IMAGES)
    assert report.passed
    assert [regime.name for regime in report.regimes] == ["noise", NEAR_ZERO]
    column = report.regimes[0].columns[0]
    assert tuple(result.layer for result in column.layers) == LAYERS
    assert len(column.weights) == 31
    assert {r.layer for r in report.regimes[1].columns[0].layers} == {
        "preL2", "vlad:intranorm", "postL2", "finalL2",
    }  # fmt: skip


def test_nothing_compared_is_a_failure() -> None:
    assert not witness(SOURCE, {}, IMAGES).passed


def test_a_missing_layer_is_a_failure() -> None:
    found = verdict(InMemory(layers=tuple(name for name in LAYERS if name != "pool3")))
    assert (found.passed, found.first_bad_layer) == (False, "pool3")
    assert "no such layer" in found.sentence


def test_an_extra_layer_is_a_failure() -> None:
    class Extra(InMemory):
        def run(self, images: Images) -> Iterator[tuple[str, Array]]:
            yield from super().run(images)
            yield "softmax", np.zeros((2, 1))

    found = verdict(Extra())
    assert (found.passed, found.first_bad_layer) == (False, "softmax")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values * np.nan, "NaN"),
        (lambda values: values[:, ::2], "shape"),
        (lambda values: values * 1.0001, "differs"),
    ],
    ids=["nan", "shape", "scale"],
)
def test_a_bad_output_is_charged_to_its_layer(
    change: Callable[[Array], Array], reason: str
) -> None:
    def only(layer: str, values: Array) -> Array:
        return change(values) if layer == "conv4_2" else values

    found = verdict(InMemory(change=only))
    assert found.first_bad_layer == "conv4_2"
    assert reason in found.sentence


def test_one_weight_is_named_with_both_values() -> None:
    def nudged(values: Array) -> Array:
        values[1, 2, 3, 7] += 0.01 * values.std()
        return values

    found = verdict(with_tensor("conv3_2/weights/0", nudged))
    assert (found.first_bad_layer, found.tensor) == ("conv3_2", "conv3_2/kernel")
    assert "1 of 1296 values" in found.sentence
    assert "(1, 2, 3, 7)" in found.sentence


def test_a_fault_is_own_where_it_is_made_and_inherited_behind() -> None:
    runner = with_tensor("conv4_1/weights/1", np.negative)
    column = witness(SOURCE, {"it": runner}, IMAGES).regimes[0].columns[0]
    results = {result.layer: result for result in column.layers}
    for layer, own in {"relu3_3": True, "conv4_1": False, "conv4_2": True}.items():
        measure = results[layer].own
        assert measure is not None
        assert measure.passed is own, layer
    behind = results["conv4_2"].inherited
    assert behind is not None
    assert not behind.passed


def test_an_epsilon_shows_on_near_zero_vectors() -> None:
    layers = tuple(
        replace(layer, options={"param": (32, 1e-6, 1, 0.5)}) if layer.name == "preL2" else layer
        for layer in SOURCE.layers
    )
    found = verdict(InMemory(replace(SOURCE, layers=layers)))
    assert found.first_bad_layer == "preL2"
    assert found.cause == "an epsilon of 1e-06 in place of 1e-12"


def test_a_wider_tolerance_lets_a_small_error_pass() -> None:
    def slightly(layer: str, values: Array) -> Array:
        return values * np.float32(1.00002) if layer == "finalL2" else values

    runner = InMemory(change=slightly)
    assert not verdict(runner).passed
    assert verdict(runner, tolerance=Tolerance(rtol=1e-4)).passed
    assert verdict(runner, tolerance=Tolerance.parse(["finalL2:5000"])).passed


def test_onednn_s_kernels_may_be_twice_as_far_off_alone() -> None:
    """On a layer's own error, and on no other artifact's."""

    def slightly(layer: str, values: Array) -> Array:
        if layer != "relu2_1":
            return values
        top = float(np.abs(values).max())
        # a whole net's run is allowed 16 roundings, a layer alone 4: 2 and 6 of the floor's 2⁻²⁵
        return (values.astype(np.float64) + 6 * 2.0**-25 * top).astype(np.float32)

    notes = {"plain": ("anything",), "onednn": ("anything", ONEDNN)}
    runners = {
        name: InMemory(change=slightly, notes=each, kind="keras") for name, each in notes.items()
    }
    report = witness(SOURCE, runners, IMAGES)
    limits = {
        column.artifact: {
            (row.own.limit, row.inherited.limit)
            for row in column.layers
            if row.own and row.inherited
        }
        for column in report.regimes[0].columns
    }
    assert limits == {"plain": {(4.0, 16.0)}, "onednn": {(8.0, 16.0)}}
    passed = {column.artifact: column.verdict.passed for column in report.columns[:2]}
    assert passed == {"plain": False, "onednn": True}


class Wired(InMemory):
    """It knows what its layers read: a relu is computed and then read by nobody."""

    reads: ClassVar = {
        "input": ("image",),
        **{each.name: each.inputs for each in SOURCE.layers},
        "conv5_2": ("conv5_1",),
    }


def test_a_layer_that_reads_another_is_named() -> None:
    found = verdict(Wired())
    assert (found.first_bad_layer, found.tensor) == ("conv5_2", "")
    assert found.cause == "reads conv5_1, in the source relu5_1"


def test_weights_alone_are_compared_as_such() -> None:
    report = witness(SOURCE, {"it": InMemory(layers=())}, IMAGES)
    assert report.passed
    (regime,) = report.regimes
    assert (regime.columns[0].layers, len(regime.columns[0].weights)) == ((), 31)


def test_short_vectors_are_tried_once() -> None:
    report = witness(SOURCE, {"it": InMemory()}, {**IMAGES, "again": IMAGES["noise"][:1]})
    assert [regime.name for regime in report.regimes] == ["noise", NEAR_ZERO, "again"]


@pytest.mark.parametrize(
    ("layer", "change", "cause"),
    [
        ("WPCA", lambda v: v[:, ::-1], "outputs swapped: 0, 1, 2, 3, 4, 5"),
        ("conv5_3", lambda v: v.transpose(0, 2, 1, 3), "height and width swapped"),
        ("conv4_2", lambda v: np.negative(v), "the sign of all values"),
        ("relu4_2", lambda v: v * np.float32(3), "a scale of 3"),
        ("vlad:core", lambda v: v + 1, ""),
    ],
)
def test_what_was_done_to_an_output_is_the_cause(
    layer: str, change: Callable[[Array], Array], cause: str
) -> None:
    found = verdict(InMemory(change=lambda name, v: change(v) if name == layer else v))
    assert (found.first_bad_layer, found.cause) == (layer, cause)


def test_where_a_weight_is_wrong_the_layer_s_settings_are_not_asked() -> None:
    def without_bias(values: Array) -> Array:
        return np.zeros_like(values)

    found = verdict(with_tensor("conv4_1/weights/1", without_bias))
    assert found.cause == "a missing bias: all are 0"


def test_a_layer_behind_a_nan_is_still_right_alone() -> None:
    def poisoned(values: Array) -> Array:
        values[0, 0, 0, 0] = np.nan
        return values

    column = witness(SOURCE, {"it": with_tensor("conv3_1/weights/0", poisoned)}, IMAGES)
    rows = {row.layer: row for row in column.regimes[0].columns[0].layers}
    behind = rows["conv3_2"]
    assert "NaN" in behind.problem
    assert behind.inherited is None
    assert behind.own is not None
    assert behind.own.passed
    assert rows["conv3_1"].own is None


def test_the_first_failing_layer_is_handed_on_once() -> None:
    seen: list[Failure] = []

    def keep(name: str, runner: Any, failure: Failure) -> None:
        seen.append(failure)

    verdict(with_tensor("conv4_1/weights/1", np.negative), on_failure=keep)
    (failure,) = seen
    assert failure.layer == "conv4_1"
    assert failure.inputs[0].shape == (2, 4, 6, 12)
    assert failure.expected.shape == failure.found.shape == (2, 4, 6, 16)
