"""What all forms of a report show: the artifacts across inputs, and what is wrong, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from verify.result import Column, LayerResult, Measure, Report, WeightResult

__all__ = [
    "Artifact",
    "Finding",
    "State",
    "artifacts",
    "findings",
    "layer_names",
    "state",
    "telling",
    "worst",
]


class State(StrEnum):
    """What became of one layer of one artifact on one input."""

    SAME = "same"
    MADE = "made"  # its own error is too large
    CARRIED = "carried"  # its own error is small: an earlier layer is to blame
    DIFFERENT = "different"  # it could not be replayed alone, so nobody knows whose error it is
    IMPOSSIBLE = "impossible"  # nothing could be compared
    ABSENT = "absent"  # the artifact has no such layer to compare

    @property
    def bad(self) -> bool:
        """Counts against the artifact."""
        return self not in (State.SAME, State.ABSENT)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact over all inputs.

    label    its name, with its path where two have the same.
    columns  input's name -> what was found on it.
    weights  one row for each tensor: weights do not depend on the input.
    """

    label: str
    kind: str
    path: str
    columns: Mapping[str, Column]
    weights: tuple[WeightResult, ...]

    @property
    def passed(self) -> bool:
        """On every input."""
        return all(column.verdict.passed for column in self.columns.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """Of all inputs, each once."""
        return tuple(dict.fromkeys(note for c in self.columns.values() for note in c.notes))


@dataclass(frozen=True, slots=True)
class Finding:
    """One bad layer of one artifact: the inputs it was seen on, and the worst of the results."""

    artifact: str
    layer: str
    state: State
    inputs: tuple[str, ...]
    result: LayerResult


def state(result: LayerResult | None) -> State:
    """See `State`."""
    if result is None:
        return State.ABSENT
    if result.problem or (result.own is None and result.inherited is None):
        return State.IMPOSSIBLE
    if result.own and not result.own.passed:
        return State.MADE
    if result.inherited and not result.inherited.passed:
        return State.CARRIED if result.own else State.DIFFERENT
    return State.SAME


def telling(result: LayerResult) -> Measure | None:
    """The measure to show where there is room for one: the layer's own if that is what fails."""
    if state(result) is State.MADE or result.inherited is None:
        return result.own
    return result.inherited


def worst(results: Iterable[LayerResult]) -> LayerResult | None:
    """Of one layer on several inputs: a bad one before a good one, then the largest error."""
    return max(results, key=_badness, default=None)


def _badness(result: LayerResult) -> tuple[int, float]:
    rank = [State.SAME, State.CARRIED, State.DIFFERENT, State.MADE, State.IMPOSSIBLE]
    measure = telling(result)
    error = measure.roundings if measure else 0.0
    return rank.index(state(result)), error if error == error else float("inf")


def artifacts(report: Report) -> tuple[Artifact, ...]:
    """Every artifact of the report, in its order."""
    found: dict[tuple[str, str], dict[str, Column]] = {}
    for regime in report.regimes:
        for column in regime.columns:
            found.setdefault((column.artifact, column.path), {})[regime.name] = column
    named = Counter(name for name, _ in found)
    return tuple(
        Artifact(
            label=name if named[name] == 1 else f"{name} ({path})",
            kind=next(iter(columns.values())).kind,
            path=path,
            columns=columns,
            weights=_weights(columns.values()),
        )
        for (name, path), columns in found.items()
    )


def _weights(columns: Iterable[Column]) -> tuple[WeightResult, ...]:
    rows: dict[str, WeightResult] = {}
    for column in columns:
        for row in column.weights:
            if row.name not in rows or rows[row.name].passed:
                rows[row.name] = row
    return tuple(rows.values())


def layer_names(report: Report) -> tuple[str, ...]:
    """The source's layers, then what only artifacts have."""
    extra = (row.layer for column in report.columns for row in column.layers)
    return tuple(dict.fromkeys([*report.layers, *extra]))


def findings(report: Report) -> tuple[Finding, ...]:
    """Every bad layer, in the graph's order; those that only carry an error come last."""
    order = {name: place for place, name in enumerate(layer_names(report))}
    found = [
        finding
        for artifact in artifacts(report)
        for finding in sorted(_of(artifact), key=lambda each: order[each.layer])
    ]
    return tuple(sorted(found, key=lambda each: each.state is State.CARRIED))


def _of(artifact: Artifact) -> Iterable[Finding]:
    seen: dict[str, dict[str, LayerResult]] = {}
    for name, column in artifact.columns.items():
        for result in column.layers:
            if state(result).bad:
                seen.setdefault(result.layer, {})[name] = result
    for layer, results in seen.items():
        if result := worst(results.values()):
            yield Finding(artifact.label, layer, state(result), tuple(results), result)
