"""The witness on runners in memory: pairing by name, own and inherited error, the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Checkpoint
from converters.errors import ConversionError
from converters.mini import mini
from verify import oracle
from verify.capture import Array
from verify.reference import weights_of
from verify.result import Verdict
from verify.tolerance import Tolerance
from verify.witness import NEAR_ZERO, witness

SOURCE = mini()
LAYERS = ("input", *(layer.name for layer in SOURCE.layers))
IMAGES = {"noise": np.random.default_rng(5).integers(0, 256, (2, 48, 64, 3), np.uint8)}


@dataclass
class InMemory:
    """The net in float32 with a fault in it."""

    checkpoint: Checkpoint = SOURCE
    kind: str = "onnx"
    layers: tuple[str, ...] = LAYERS
    notes: tuple[str, ...] = ()
    change: Callable[[str, Array], Array] = field(default=lambda layer, values: values)

    def run(self, images: Array) -> Iterator[tuple[str, Array]]:
        for name, values in oracle.execute(self.checkpoint, images, np.float32):
            if name in self.layers:
                yield name, self.change(name, values)

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        return self.change(layer, oracle.replay(self.checkpoint, layer, inputs, np.float32))

    def deployed(self, images: Array) -> Mapping[str, Array]:
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
        def run(self, images: Array) -> Iterator[tuple[str, Array]]:
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


@pytest.mark.parametrize("text", ["conv1_1", "conv1_1:x", ":3", "conv1_1:-1"])
def test_a_tolerance_is_a_name_and_a_number(text: str) -> None:
    with pytest.raises(ConversionError, match="NAME:VALUE"):
        Tolerance.parse([text])


def test_a_layer_s_name_may_hold_a_colon() -> None:
    assert Tolerance.parse(["vlad:core:20"]).layers == {"vlad:core": 20.0}
