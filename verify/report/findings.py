"""What all forms of a report show: the artifacts across inputs, and what is wrong, worst first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath

from verify.result import Column, LayerResult, Measure, Regime, Report, WeightResult

__all__ = [
    "Artifact",
    "Carried",
    "Finding",
    "State",
    "artifacts",
    "findings",
    "layer_names",
    "layers_on",
    "share",
    "state",
    "telling",
]


class State(StrEnum):
    """What became of one layer of one artifact on one input."""

    SAME = "same"
    ALLOWED = "allowed"  # it differs, is known to, and has no limit
    MADE = "made"  # its own error is too large
    CARRIED = "carried"  # its own error is small: an earlier layer is to blame
    DIFFERENT = "different"  # it could not be replayed alone, so nobody knows whose error it is
    IMPOSSIBLE = "impossible"  # nothing could be compared
    ABSENT = "absent"  # the artifact has no such layer to compare

    @property
    def bad(self) -> bool:
        """Counts against the artifact."""
        return self not in (State.SAME, State.ALLOWED, State.ABSENT)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact over all inputs.

    label    its name; of one given by its path as many of the last parts as tell it from the
             others; with its path where two have the same.
    columns  input's name -> what was found on it.
    layers   layer's name -> the worst of its results on all inputs.
    weights  one row for each tensor: weights do not depend on the input.
    """

    label: str
    kind: str
    path: str
    columns: Mapping[str, Column]
    layers: Mapping[str, LayerResult]
    weights: tuple[WeightResult, ...]

    @property
    def passed(self) -> bool:
        """On every input."""
        return all(column.verdict.passed for column in self.columns.values())

    @property
    def good_layers(self) -> int:
        """How many passed on every input."""
        return sum(result.passed for result in self.layers.values())

    @property
    def seconds(self) -> float:
        """On all inputs together."""
        return sum(column.seconds for column in self.columns.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """Of all inputs, each once."""
        return tuple(dict.fromkeys(note for c in self.columns.values() for note in c.notes))


@dataclass(frozen=True, slots=True)
class Finding:
    """One bad layer of one artifact: the inputs it was seen on, and the worst of the results.

    spared  the inputs on which the same layer of the same artifact passed.
    """

    artifact: str
    layer: str
    state: State
    inputs: tuple[str, ...]
    spared: tuple[str, ...]
    result: LayerResult


@dataclass(frozen=True, slots=True)
class Carried:
    """Layers of one artifact that only carry an error of an earlier one, from `first` to `last`."""

    artifact: str
    first: str
    last: str
    layers: int


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
    measures = [each for each in (result.own, result.inherited) if each]
    return State.ALLOWED if any(math.isinf(each.limit) for each in measures) else State.SAME


def telling(result: LayerResult) -> Measure | None:
    """The measure to show where there is room for one: the layer's own if that is what fails."""
    if state(result) is State.MADE or result.inherited is None:
        return result.own
    return result.inherited


def share(measure: Measure) -> float:
    """How much of its limit an error takes, of the two the larger; above 1 it has failed."""
    pairs = ((measure.roundings, measure.limit), (measure.peak, measure.peak_limit))
    shares = [found / limit if limit else (math.inf if found else 0.0) for found, limit in pairs]
    return math.inf if any(map(math.isnan, shares)) else max(shares)


_RANK = [
    State.SAME,
    State.ALLOWED,
    State.CARRIED,
    State.DIFFERENT,
    State.MADE,
    State.IMPOSSIBLE,
]


def _badness(result: LayerResult) -> tuple[int, float]:
    measure = telling(result)
    return _RANK.index(state(result)), share(measure) if measure else 0.0


def artifacts(report: Report) -> tuple[Artifact, ...]:
    """Every artifact of the report: those that differ first, else in its order."""
    found: dict[tuple[str, str], dict[str, Column]] = {}
    for regime in report.regimes:
        for column in regime.columns:
            found.setdefault((column.artifact, column.path), {})[regime.name] = column
    short = _short(tuple(name for name, _ in found))
    named = Counter(short[name] for name, _ in found)
    every = (
        Artifact(
            label=short[name] if named[short[name]] == 1 else f"{short[name]} ({path})",
            kind=next(iter(columns.values())).kind,
            path=path,
            columns=columns,
            layers=_layers(columns.values()),
            weights=_weights(columns.values()),
        )
        for (name, path), columns in found.items()
    )
    return tuple(sorted(every, key=lambda artifact: artifact.passed))


def _short(names: Sequence[str]) -> dict[str, str]:
    """Of a path as many of the last parts as no other name ends in; other names as they are."""
    parts = {name: PurePath(name).parts for name in names}
    short = {name: name for name in names}
    for name in (name for name in names if len(parts[name]) > 1):
        rest = [each for other, each in parts.items() if other != name]
        tails = (parts[name][-size:] for size in range(1, len(parts[name]) + 1))
        alone = (tail for tail in tails if all(each[-len(tail) :] != tail for each in rest))
        short[name] = str(PurePath(*next(alone, parts[name])))
    return short


def _layers(columns: Iterable[Column]) -> dict[str, LayerResult]:
    rows: dict[str, list[LayerResult]] = {}
    for column in columns:
        for row in column.layers:
            rows.setdefault(row.layer, []).append(row)
    return {layer: max(results, key=_badness) for layer, results in rows.items()}


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


def layers_on(regime: Regime, report: Report) -> tuple[str, ...]:
    """Those that any artifact has on this input: some inputs are made for a few layers alone."""
    seen = {row.layer for column in regime.columns for row in column.layers}
    every = layer_names(report)
    return tuple(name for name in every if name in seen) or every


def findings(report: Report) -> tuple[tuple[Finding, ...], tuple[Carried, ...]]:
    """What to tell one by one, and what to sum up.

    Told: for each artifact its first bad layer in the graph's order, and all others that do
    more than carry an error. The rest follows from those.
    """
    order = {name: place for place, name in enumerate(layer_names(report))}
    told: list[Finding] = []
    carried: list[Carried] = []
    for artifact in artifacts(report):
        rows = sorted(artifact.layers.values(), key=lambda row: order[row.layer])
        bad = [row for row in rows if state(row).bad]
        rest = [row.layer for row in bad[1:] if state(row) is State.CARRIED]
        told += [_finding(artifact, row) for row in bad if row.layer not in rest]
        if rest:
            carried.append(Carried(artifact.label, rest[0], rest[-1], len(rest)))
    return tuple(told), tuple(carried)


def _finding(artifact: Artifact, result: LayerResult) -> Finding:
    bad = {
        name: state(row).bad
        for name, column in artifact.columns.items()
        for row in column.layers
        if row.layer == result.layer
    }
    inputs = tuple(name for name in bad if bad[name])
    spared = tuple(name for name in bad if not bad[name])
    return Finding(artifact.label, result.layer, state(result), inputs, spared, result)
