"""Rows of the HTML page's tables: cells and numbers as the texts that stand there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verify.report import words
from verify.report.findings import Artifact, State, share, state, telling
from verify.result import LayerResult, Measure, WeightResult

__all__ = ["COLUMNS", "Cell", "Detail", "Tensor", "cell", "detail", "flat", "tensors"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the N-way table: how full its limit is, in quarters, where it has one."""

    state: State
    text: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class Detail:
    """A row of the table of numbers; `own` and `inherited` as text, empty where there are none."""

    artifact: int
    layer: int
    state: State
    words: str
    shape: str
    own: tuple[str, ...]
    inherited: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A row of the table of weights, with a cell for each artifact."""

    name: str
    size: int
    bad: bool
    cells: tuple[WeightResult | None, ...]


_STATES: Mapping[State, str] = {
    State.SAME: "within limits",
    State.ALLOWED: "≈ known and allowed",
    State.MADE: "✗ made here",
    State.CARRIED: "↓ carried",
    State.DIFFERENT: "✗ different",
}


def cell(result: LayerResult | None) -> Cell:
    """Of one layer of one artifact."""
    found = state(result)
    if result is None:
        return Cell(found, "–")
    measure = telling(result)
    if found is State.IMPOSSIBLE or measure is None:
        return Cell(found, words.brief(result.problem or "nothing"))
    return Cell(found, words.roundings(measure.roundings), min(3, int(4 * min(1, share(measure)))))


def detail(artifact: int, layer: int, result: LayerResult) -> Detail:
    """Of one layer of one artifact, which stand at these places."""
    found = state(result)
    problem = words.plain(result.problem or "nothing compared")
    return Detail(
        artifact,
        layer,
        found,
        problem if found is State.IMPOSSIBLE else _STATES[found],
        words.shape(result.shape),
        _numbers(result.own),
        _numbers(result.inherited),
    )


#: Heads of a measure's numbers.
COLUMNS = (
    "roundings", "limit", "peak", "peak limit", "max |d|", "max |d| / max |source|",
    "RMS relative", "cosine", "SNR dB", "worst at", "source there", "found there",
)  # fmt: skip


def _numbers(measure: Measure | None) -> tuple[str, ...]:
    if measure is None:
        return ()
    return (
        words.roundings(measure.roundings),
        words.number(measure.limit),
        words.roundings(measure.peak),
        words.number(measure.peak_limit),
        words.number(measure.max_abs),
        words.number(measure.max_rel),
        words.number(measure.rms_rel),
        words.cosine(measure.cosine),
        words.number(measure.snr_db),
        words.index(measure.worst),
        words.number(measure.reference),
        words.number(measure.found),
    )


def tensors(every: Sequence[Artifact]) -> Iterator[Tensor]:
    """Every tensor that any artifact has."""
    columns = [{row.name: row for row in artifact.weights} for artifact in every]
    for name in dict.fromkeys(name for column in columns for name in column):
        cells = tuple(column.get(name) for column in columns)
        there = [each for each in cells if each]
        yield Tensor(name, there[0].size, any(not each.passed for each in there), cells)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested data as rows of a path and a text."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from flat(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and value:
        for place, each in enumerate(value):
            yield from flat(each, f"{path}[{place}]")
    elif path:
        yield path, str(value)
