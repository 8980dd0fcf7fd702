"""The stock build's approximation as a hypothesis on an artifact: named, never excused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from converters.checkpoint import Layer
from converters.mini import mini
from verify import oracle, regimes
from verify.capture import Array, Images
from verify.fast_pow import STOCK_CPU
from verify.loose_gate import CAUSE, explained
from verify.operators import OPERATORS, Operator
from verify.reference import weights_of
from verify.result import Report, Verdict
from verify.tolerance import Tolerance
from verify.witness import witness

SOURCE = mini()
IMAGES = {"picture": regimes.photograph(40, 48)}


class Program:
    """The source's own weights, run with other operators."""

    kind = "mat"
    notes: tuple[str, ...] = ()

    def __init__(self, operators: Mapping[str, Operator]) -> None:
        self.operators = operators
        self.layers = ("input", *(layer.name for layer in SOURCE.layers))

    def run(self, images: Images) -> Iterator[tuple[str, Array]]:
        return oracle.execute(SOURCE, images, np.float32, operators=self.operators)

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        return oracle.replay(SOURCE, layer, inputs, np.float32, operators=self.operators)

    def deployed(self, images: Images) -> Mapping[str, Array]:
        return dict([list(self.run(images))[-1]])

    def weights(self) -> Mapping[str, Array]:
        return weights_of(SOURCE)


def verdict(operators: Mapping[str, Operator], tolerance: Tolerance | None = None) -> Verdict:
    program = Program(operators)
    found = witness(SOURCE, {"program": program}, IMAGES)
    after: Report = explained(found, SOURCE, {"program": program}, IMAGES, tolerance or Tolerance())
    return after.regimes[0].columns[0].verdict


def test_an_artifact_that_approximates_is_told_so_and_differs() -> None:
    found = verdict(STOCK_CPU)
    assert (found.passed, found.first_bad_layer, found.cause) == (False, "preL2", CAUSE)
    assert CAUSE in found.sentence


def test_beyond_the_gate_nothing_is_tried() -> None:
    assert verdict(STOCK_CPU, Tolerance(loose=0)).cause != CAUSE


def test_another_normalization_of_the_same_size_is_not_taken_for_it() -> None:
    def scaled(x: Array, *, param: Sequence[float]) -> Array:
        y: Array = OPERATORS["normalize"](x, param=param) * np.asarray(0.998, x.dtype)
        return y

    found = verdict({**OPERATORS, "normalize": scaled})
    assert not found.passed
    assert found.cause != CAUSE


def test_a_net_without_normalization_has_no_such_cause() -> None:
    net = mini()
    plain: tuple[Layer, ...] = tuple(e for e in net.layers if e.kind != "normalize")
    assert len(plain) < len(net.layers)
    report = Report("net.mat", (), ())
    short = type(net)(net.tensors, plain, net.preprocessing, net.origin)
    assert explained(report, short, {}, {}, Tolerance()) is report
