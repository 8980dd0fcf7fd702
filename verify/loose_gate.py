"""A difference that has a known cause outside the net: MatConvNet's stock CPU build.

What that build gives is up to 5e-3 away from the net's own output (L2 of the descriptor), since
its normalization approximates a power. `explained` tries that as a hypothesis on every column that
differs: it names the cause, and a capture which the approximation reproduces passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from converters.checkpoint import Checkpoint
from verify.candidate import Candidate
from verify.capture import RECORDED, Images, Runner
from verify.fast_pow import STOCK_CPU
from verify.oracle import execute
from verify.result import Column, LayerResult, Report
from verify.tolerance import Tolerance

__all__ = ["CAUSE", "explained"]

CAUSE = "MatConvNet's stock CPU build: vl_nnnormalize approximates powf (fast_pow)"
_KINDS = ("normalize", "lrn")
#: What must be left of a layer's difference, and the most it may be, relative to the layer's RMS.
_SHARE, _LEFT = 1 / 20, 1e-4


def explained(
    report: Report,
    checkpoint: Checkpoint,
    runners: Mapping[str, Runner],
    images: Mapping[str, Images],
    tolerance: Tolerance,
) -> Report:
    """The report, with the cause where it is this one.

    A column is tried whose only differences lie at or behind the first normalization and whose
    last layer is within `tolerance.loose`. A capture then passes, each such layer as known and
    allowed; an artifact still differs, since it is to be the source and not a build of it.
    """
    names = ["input", *(layer.name for layer in checkpoint.layers)]
    first = next((n.name for n in checkpoint.layers if n.kind in _KINDS), None)
    if first is None:
        return report
    behind = names[names.index(first) :]
    regimes = []
    for regime in report.regimes:
        columns = []
        for column in regime.columns:
            runner = runners.get(column.artifact)
            if runner and regime.name in images and _near(column, behind, tolerance.loose):
                column = _tried(column, checkpoint, runner, images[regime.name], tolerance.loose)
            columns.append(column)
        regimes.append(replace(regime, columns=tuple(columns)))
    return replace(report, regimes=tuple(regimes))


def _near(column: Column, behind: list[str], gate: float) -> bool:
    bad = [result for result in column.layers if not result.passed]
    last = column.layers[-1] if column.layers else None
    return bool(
        bad
        and last
        and last.layer == behind[-1]
        and all(r.layer in behind and r.inherited and not r.problem for r in bad)
        and all(weight.passed for weight in column.weights)
        and _distance(last) <= gate
    )


def _distance(last: LayerResult) -> float:
    """L2 of the descriptor's difference, the descriptor's own being 1; at most, for a batch."""
    return last.inherited.rms_rel * math.sqrt(last.shape[0]) if last.inherited else math.inf


def _tried(
    column: Column, checkpoint: Checkpoint, runner: Runner, images: Images, gate: float
) -> Column:
    """The column, if the oracle with the approximation gives every layer that differs."""
    results = {result.layer: result for result in column.layers}
    candidate = Candidate(column.artifact, runner, Tolerance(), runner.run(images))
    left = 0.0
    for name, expected in execute(checkpoint, images, operators=STOCK_CPU):
        found = candidate.take(name) if name in results else None
        if found is None or results[name].passed:
            continue
        left = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        before = results[name].inherited
        if before is None or not left < min(_LEFT, _SHARE * before.rms_rel):
            return column
    distance = _distance(column.layers[-1])
    note = f"cause: {CAUSE}; with that approximation the descriptor's L2 is {left:.1e}"
    if column.kind != RECORDED:
        words = f"{column.verdict.sentence}; {note}"
        return replace(column, verdict=replace(column.verdict, cause=CAUSE, sentence=words))
    gated = f"within the loose gate {gate:g} (L2 of the descriptor {distance:.2e}), {note}"
    words = f"{column.artifact} is {gated}"
    verdict = replace(
        column.verdict, passed=True, first_bad_layer="", tensor="", cause=CAUSE, sentence=words
    )
    layers = tuple(result if result.passed else _known(result) for result in column.layers)
    return replace(column, layers=layers, verdict=verdict, notes=(*column.notes, gated))


def _known(result: LayerResult) -> LayerResult:
    assert result.inherited is not None
    measure = replace(result.inherited, limit=math.inf, peak_limit=math.inf)
    return replace(result, inherited=measure)
