"""`report.html`: one page that opens from the disk, with everything in it and no network.

The template escapes whatever it is given, and the page's own policy allows no script or style but
the two that stand in it, whatever a file's name may hold.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from verify.report import drawing, figures, words
from verify.report.findings import (
    Artifact,
    State,
    artifacts,
    findings,
    layers_on,
    share,
    state,
    telling,
)
from verify.result import LayerResult, Measure, Regime, Report, WeightResult

__all__ = ["render"]

_PAGE = "page"
#: Of the faults, those that are not folded away.
_MOST = 8


@dataclass(frozen=True, slots=True)
class _Fault:
    """One entry of the list of what is wrong."""

    state: State
    what: str
    name: str
    artifact: str
    words: str


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of the N-way table: how full its limit is, in quarters, where it has one."""

    state: State
    text: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class _Detail:
    """A row of the table of numbers; `own` and `inherited` as text, empty where there are none."""

    artifact: int
    layer: int
    state: State
    words: str
    shape: str
    own: tuple[str, ...]
    inherited: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A row of the table of weights, with a cell for each artifact."""

    name: str
    size: int
    bad: bool
    cells: tuple[WeightResult | None, ...]


@dataclass(frozen=True, slots=True)
class _Panel:
    """All that is shown of one input."""

    key: str
    name: str
    shape: str
    failed: bool
    layers: tuple[str, ...]
    depth: figures.Depth
    scatter: figures.Scatter
    histograms: tuple[figures.Cell, ...]
    table: tuple[tuple[str, tuple[_Cell, ...]], ...]
    details: tuple[_Detail, ...]


def render(report: Report) -> str:
    """The page as text."""
    every = artifacts(report)
    panels = tuple(_panel(regime, report, every) for regime in report.regimes)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("verify.report", _PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    return environment.get_template("page.html.j2").render(
        report=report,
        verdict=words.verdict(report),
        artifacts=every,
        panels=panels,
        first=next((n for n, panel in enumerate(panels) if panel.failed), 0),
        faults=tuple(_faults(report, every)),
        most=_MOST,
        weights=tuple(_weights(every)),
        manifest=tuple(_flat(report.manifest)),
        shapes=drawing.SHAPES,
        left=figures.LEFT,
        bar=figures.BAR,
        names=figures.NAMES,
        columns=_COLUMNS,
        blanks=Markup("<td>" * len(_COLUMNS)),
        style=_inlined("style.css", _artifact_rules(len(every))),
        script=_inlined("script.js"),
    )


def _faults(report: Report, every: Sequence[Artifact]) -> Iterator[_Fault]:
    for file, reason in report.hashes.items():
        yield _Fault(State.DIFFERENT, "Checksum", file, "", words.plain(reason))
    for artifact in every:
        for row in artifact.weights:
            if not row.passed:
                text = words.describe_weight(row)
                yield _Fault(State.DIFFERENT, "Weight", row.name, artifact.label, text)
    told, carried = findings(report)
    for finding in told:
        text = words.describe(finding.result) + words.inputs(finding)
        yield _Fault(finding.state, "Layer", finding.layer, finding.artifact, text)
    for each in carried:
        yield _Fault(State.CARRIED, "", "", each.artifact, words.carried(each))


def _panel(regime: Regime, report: Report, every: Sequence[Artifact]) -> _Panel:
    layers = layers_on(regime, report)
    columns = [artifact.columns.get(regime.name) for artifact in every]
    results = [{row.layer: row for row in column.layers} if column else {} for column in columns]
    floor = report.rounding.get(regime.name, {})
    return _Panel(
        key=regime.name,
        name=words.plain(regime.name),
        shape=words.shape(regime.shape),
        failed=any(column and not column.verdict.passed for column in columns),
        layers=layers,
        depth=figures.depth(layers, every, results, floor),
        scatter=figures.scatter(every, results),
        histograms=tuple(figures.histograms(layers, results)),
        table=tuple((n, tuple(_cell(found.get(n)) for found in results)) for n in layers),
        details=tuple(
            _detail(n, place, found[layer])
            for n, found in enumerate(results)
            for place, layer in enumerate(layers)
            if layer in found
        ),
    )


def _cell(result: LayerResult | None) -> _Cell:
    found = state(result)
    measure = telling(result) if result else None
    if result is None:
        return _Cell(found, "–")
    if found is State.IMPOSSIBLE or measure is None:
        return _Cell(found, words.brief(result.problem or "nothing"))
    return _Cell(found, words.roundings(measure.roundings), min(3, int(4 * min(1, share(measure)))))


def _detail(artifact: int, layer: int, result: LayerResult) -> _Detail:
    found = state(result)
    problem = words.plain(result.problem or "nothing compared")
    return _Detail(
        artifact,
        layer,
        found,
        problem if found is State.IMPOSSIBLE else _STATES[found],
        words.shape(result.shape),
        _numbers(result.own),
        _numbers(result.inherited),
    )


#: Heads of `_numbers`, for each measure.
_COLUMNS = (
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


def _weights(every: Sequence[Artifact]) -> Iterator[_Tensor]:
    rows = [{row.name: row for row in artifact.weights} for artifact in every]
    for name in dict.fromkeys(name for found in rows for name in found):
        cells = tuple(found.get(name) for found in rows)
        there = [cell for cell in cells if cell]
        yield _Tensor(name, there[0].size, any(not cell.passed for cell in there), cells)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested data as rows of a path and a text."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and value:
        for place, each in enumerate(value):
            yield from _flat(each, f"{path}[{place}]")
    elif path:
        yield path, str(value)


def _artifact_rules(count: int) -> str:
    """Each artifact's colour, and how to hide it."""
    return "".join(
        f".k{n}{{--c:var(--c{n % 8})}}.no{n} .a{n}{{display:none}}" for n in range(count)
    )


def _inlined(name: str, more: str = "") -> dict[str, Markup]:
    """A file of the page with the hash by which its policy knows it."""
    text = resources.files("verify.report").joinpath(_PAGE, name).read_text("utf-8") + more
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": Markup(f"'sha256-{digest}'")}


_STATES: Mapping[State, str] = {
    State.SAME: "within limits",
    State.ALLOWED: "≈ known and allowed",
    State.MADE: "✗ made here",
    State.CARRIED: "↓ carried",
    State.DIFFERENT: "✗ different",
}

_FILTERS: Mapping[str, Any] = {
    "count": words.count,
    "describe_weight": words.describe_weight,
    "plain": words.plain,
}
