"""Numbers and sentences that all forms share."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from verify.report.findings import State, artifacts, findings, share, state
from verify.report.words import (
    brief,
    cosine,
    describe,
    describe_weight,
    inputs,
    number,
    pair,
    plain,
    roundings,
    verdict,
)
from verify.result import LayerResult, Measure, Verdict, WeightResult

if TYPE_CHECKING:
    from tests.verify.report.conftest import Reports

GOOD = Measure(1e-6, 1e-7, 1e-8, 1.0, 160.0, (0, 1), 2.0, 2.5, 0.9, 4.0, 1.1, 6.0)
LARGE = replace(GOOD, roundings=812.0)
PEAK = replace(GOOD, peak=70.0)
NAN = replace(GOOD, roundings=math.nan)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.92, "0.92"),
        (0.0123456, "0.0123"),
        (0.000103, "1.03e-4"),
        (1.2e-7, "1.20e-7"),
        (999.6, "1000"),
        (1234.6, "1235"),
        (-2.1e6, "-2.10e6"),
        (1e300, "1.00e300"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "NaN"),
    ],
)
def test_number(value: float, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (0.918, "0.92"),
        (4.0, "4.00"),
        (14.12, "14.1"),
        (812.3, "812"),
        (2.1e6, "2.10e6"),
    ],
)
def test_roundings(value: float, expected: str) -> None:
    assert roundings(value) == expected


@pytest.mark.parametrize(
    ("found", "reference", "expected"),
    [
        (24.84, 24.8, "24.84 instead of 24.8"),
        (1.5, -1.5, "1.5 instead of -1.5"),
        (0.5, 0.5, "0.5 instead of 0.5"),
        (1 + 2**-52, 1.0, "1.0000000000000002 instead of 1"),
        (math.nan, 1.0, "NaN instead of 1"),
        (math.inf, math.inf, "∞ instead of ∞"),
    ],
)
def test_a_pair_has_digits_enough_to_tell_its_values_apart(
    found: float, reference: float, expected: str
) -> None:
    assert pair(found, reference) == expected


def test_a_cosine_shows_what_three_digits_hide() -> None:
    assert cosine(0.9999987) == "0.9999987"
    assert cosine(1.0) == "1"
    assert cosine(math.nan) == "NaN"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\nlines\t of it", "two lines of it"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("\udc80", "\\udc80"),
        ("\x00", "\\x00"),
        ("naïve ✓ 画像", "naïve ✓ 画像"),
    ],
)
def test_a_name_prints_as_what_it_is(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("has shape (1, 2), the source (1, 3)", "shape"),
        ("7 of 4096 values are NaN or infinite, the first at (0, 3)", "NaN"),
        ("missing: no output goes by this name", "missing"),
        ("the artifact has no such layer", "missing"),
        ("the source has no layer fc8", "extra"),
        ("is empty", "empty"),
        ("holds strings", "holds strings"),
        ("something else that is long", "something els…"),
    ],
)
def test_brief(problem: str, expected: str) -> None:
    assert brief(problem) == expected


@pytest.mark.parametrize(
    ("own", "inherited", "problem", "expected", "words"),
    [
        (None, None, "missing", State.IMPOSSIBLE, "missing"),
        (None, None, "", State.IMPOSSIBLE, "nothing was compared"),
        (GOOD, GOOD, "NaN", State.IMPOSSIBLE, "NaN"),
        (
            LARGE,
            GOOD,
            "",
            State.MADE,
            "made here: own error 812 roundings (limit 4); "
            "the worst element [0, 1] is 2.5 instead of 2",
        ),
        (
            PEAK,
            LARGE,
            "",
            State.MADE,
            "made here: own error at its peak 70.0 roundings (limit 6); "
            "the worst element [0, 1] is 2.5 instead of 2",
        ),
        (
            NAN,
            None,
            "",
            State.MADE,
            "made here: own error NaN roundings (limit 4); "
            "the worst element [0, 1] is 2.5 instead of 2",
        ),
        (
            GOOD,
            LARGE,
            "",
            State.CARRIED,
            "carried: error 812 roundings (limit 4), own error 0.90 roundings (limit 4)",
        ),
        (
            None,
            PEAK,
            "",
            State.DIFFERENT,
            "different: error at its peak 70.0 roundings (limit 6), not replayed alone; "
            "the worst element [0, 1] is 2.5 instead of 2",
        ),
        (
            replace(LARGE, limit=math.inf, peak_limit=math.inf),
            None,
            "",
            State.ALLOWED,
            "known and allowed: own error 812 roundings (limit ∞)",
        ),
        (
            None,
            GOOD,
            "",
            State.SAME,
            "within limits: inherited 0.90 roundings (limit 4)",
        ),
    ],
)
def test_a_layer_in_words(
    own: Measure | None, inherited: Measure | None, problem: str, expected: State, words: str
) -> None:
    result = LayerResult("conv1_1", (1, 2), inherited, own, problem)
    assert state(result) is expected
    assert state(result).bad is not result.passed
    assert describe(result) == words


def test_no_result_is_no_failure_of_its_own() -> None:
    assert state(None) is State.ABSENT
    assert not State.ABSENT.bad


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        (GOOD, 0.225),
        (PEAK, 70 / 6),
        (NAN, math.inf),
        (replace(GOOD, limit=0.0), math.inf),
        (replace(GOOD, roundings=0.0, limit=0.0, peak=0.0, peak_limit=0.0), 0.0),
    ],
)
def test_share_of_a_limit(measure: Measure, expected: float) -> None:
    assert share(measure) == pytest.approx(expected)
    assert (share(measure) <= 1) is measure.passed


def test_a_weight_in_words() -> None:
    one = WeightResult("conv1_1/kernel", 1728, 1, 0.01, (2, 0), 0.5, 0.5 + 2**-24)
    assert describe_weight(one) == (
        "1 of 1,728 values differs, the most at [2, 0]: 0.5000001 instead of 0.5"
    )
    assert describe_weight(replace(one, different=0)) == "all 1,728 values the same"
    assert describe_weight(replace(one, problem="wrong shape")) == "wrong shape"


def test_what_is_told_and_what_is_summed_up(reports: Reports) -> None:
    told, carried = findings(reports.bad_weight)
    assert [(each.artifact, each.layer, each.state) for each in told] == [
        ("model.onnx", "conv3_2", State.MADE)
    ]
    assert told[0].inputs == ("photograph", "black", "odd size")
    assert told[0].spared == ()
    assert [(each.first, each.last, each.layers) for each in carried] == [
        ("relu3_2", "finalL2", 22)
    ]
    assert findings(reports.passing) == ((), ())


def test_a_carried_error_is_told_where_nothing_made_it(reports: Reports) -> None:
    """Rounding that adds up is nobody's fault, and yet beyond the limit."""
    last = LayerResult("finalL2", (1, 4096), LARGE, GOOD)
    regime = reports.passing.regimes[0]
    column = replace(regime.columns[0], layers=(last,), verdict=Verdict(False, "finalL2"))
    report = replace(reports.passing, regimes=(replace(regime, columns=(column,)),))
    told, carried = findings(report)
    assert [(each.layer, each.state) for each in told] == [("finalL2", State.CARRIED)]
    assert carried == ()


def test_what_differs_comes_first_and_the_verdict_counts_it(reports: Reports) -> None:
    labels = [each.label for each in artifacts(reports.several)]
    assert labels[:4] == [
        "TF1 graph",
        "model.h5",
        "model.onnx",
        f"{reports.passing.reference} (float32)",
    ]
    assert labels[4:] == ["model.keras", "saved_model"]
    assert verdict(reports.several).sentence == (
        "TF1 graph: pool1 differs, since the relu stands before the pool; "
        "2 other artifacts differ too."
    )


def test_artifacts_of_one_name_are_told_apart(reports: Reports) -> None:
    regime = reports.passing.regimes[0]
    twins = tuple(replace(regime.columns[0], artifact="model.onnx", path=f"{n}/") for n in "ab")
    report = replace(reports.passing, regimes=(replace(regime, columns=twins),))
    assert [each.label for each in artifacts(report)] == ["model.onnx (a/)", "model.onnx (b/)"]


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["/a/b/model.onnx"], ["model.onnx"]),
        (
            ["/a/b/model.onnx", "/a/c/model.onnx", "/d/model.h5"],
            ["b/model.onnx", "c/model.onnx", "model.h5"],
        ),
        (["/model.onnx", "/a/model.onnx"], ["/model.onnx", "a/model.onnx"]),
        (["/a/model.onnx", "model.onnx"], ["a/model.onnx", "model.onnx"]),
        (["b/model.onnx"], ["model.onnx"]),
    ],
)
def test_a_path_is_called_by_its_last_parts(
    paths: list[str], labels: list[str], reports: Reports
) -> None:
    regime = reports.bad_weight.regimes[0]
    bad = Verdict(False, "conv3_2", sentence=f"{paths[0]} differs from the source at conv3_2")
    columns = tuple(
        replace(regime.columns[-1], artifact=each, path=each, verdict=bad) for each in paths
    )
    report = replace(reports.bad_weight, regimes=(replace(regime, columns=columns),))
    assert [each.label for each in artifacts(report)] == labels
    assert verdict(report).sentence.startswith(f"{labels[0]} differs from the source at conv3_2")


def test_inputs_are_named_the_shorter_way(reports: Reports) -> None:
    good, bad = reports.passing.regimes, reports.bad_weight.regimes
    for regimes, words in (
        ((good[0], bad[1], bad[2]), " (not on photograph)"),
        ((good[0], bad[1], good[2]), " (only on black)"),
        (bad, ""),
    ):
        told, _ = findings(replace(reports.passing, regimes=regimes))
        assert inputs(told[0]) == words


@pytest.mark.parametrize(
    ("name", "passed", "layer", "sentence"),
    [
        ("empty", False, "", "Nothing was compared."),
        (
            "nan",
            False,
            "preL2",
            "model.h5: the first bad layer is preL2; float16 overflows in the sum of squares.",
        ),
        ("missing_layer", False, "relu4_1", "saved_model: relu4_1 is missing."),
        (
            "wrong_hash",
            False,
            "",
            "6 artifacts against vd16_pitts30k_conv5_3_vlad_preL2_intra_white.mat: 36 layers and "
            "186 tensors compared on 3 inputs, no difference, but the checksum of 1 file is "
            "wrong: model.onnx.",
        ),
        (
            "passing",
            True,
            "",
            "6 artifacts against vd16_pitts30k_conv5_3_vlad_preL2_intra_white.mat: 36 layers and "
            "186 tensors compared on 3 inputs, no difference.",
        ),
    ],
)
def test_the_verdict_in_one_sentence(
    name: str, passed: bool, layer: str, sentence: str, reports: Reports
) -> None:
    found = verdict(reports.named(name))
    assert (found.passed, found.first_bad_layer, found.sentence) == (passed, layer, sentence)
    assert found.passed is reports.named(name).passed
