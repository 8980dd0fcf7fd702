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

from verify.report import drawing, figures, rows, words
from verify.report.findings import (
    Artifact,
    State,
    artifacts,
    findings,
    layers_on,
)
from verify.result import Regime, Report
from verify.tolerance import INHERITED, OWN

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
    table: tuple[tuple[str, tuple[rows.Cell, ...]], ...]
    details: tuple[rows.Detail, ...]


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
        weights=tuple(rows.tensors(every)),
        rankings=report.rankings,
        manifest=tuple(rows.flat(report.manifest)),
        shapes=drawing.SHAPES,
        left=figures.LEFT,
        bar=figures.BAR,
        names=figures.NAMES,
        columns=rows.COLUMNS,
        own=OWN,
        inherited=INHERITED,
        blanks=Markup("<td>" * len(rows.COLUMNS)),
        style=_inlined("style.css", _artifact_rules(len(every))),
        script=_inlined("script.js"),
    )


def _faults(report: Report, every: Sequence[Artifact]) -> Iterator[_Fault]:
    for file, reason in report.hashes.items():
        yield _Fault(State.DIFFERENT, "Checksum", file, "", words.checksum(reason))
    for ranked in (row for row in report.rankings if not row.passed):
        yield _Fault(State.DIFFERENT, "Rankings", "", ranked.artifact, words.ranking(ranked))
    told, carried = findings(report)
    for label, weights in ((artifact.label, artifact.weights) for artifact in every):
        for row in (row for row in weights if not row.passed):
            text = words.describe_weight(row)
            yield _Fault(State.DIFFERENT, "Weight", row.name, label, text)
        for finding in (each for each in told if each.artifact == label):
            text = words.describe(finding.result) + words.inputs(finding)
            yield _Fault(finding.state, "Layer", finding.layer, label, text)
        for each in (each for each in carried if each.artifact == label):
            yield _Fault(State.CARRIED, "", "", label, words.carried(each))


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
        table=tuple((n, tuple(rows.cell(found.get(n)) for found in results)) for n in layers),
        details=tuple(
            rows.detail(n, place, found[layer])
            for n, found in enumerate(results)
            for place, layer in enumerate(layers)
            if layer in found
        ),
    )


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


_FILTERS: Mapping[str, Any] = {
    "count": words.count,
    "describe_weight": words.describe_weight,
    "number": words.number,
    "plain": words.plain,
}
