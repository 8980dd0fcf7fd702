"""`report.xml`: JUnit's form, as CI servers read it.

Valid against Ant's schema (windyroad's JUnit.xsd), the strictest in use, and against Jenkins's
(junit-10.xsd). A suite for each artifact on each input, a case for each layer; then the weights of
each artifact, the rankings and the checksums. A suite's last case is its verdict, so that nothing
that fails can be missing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

from verify.report.findings import Artifact, artifacts, layers_on, state
from verify.report.words import describe, describe_weight, plain, ranking, verdict
from verify.result import Column, LayerResult, Ranking, Report

__all__ = ["render"]


@dataclass(frozen=True, slots=True)
class _Case:
    """One test case: `failure` in words if it failed, `skipped` likewise."""

    name: str
    kind: str = ""
    failure: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class _Suite:
    package: str
    name: str
    cases: tuple[_Case, ...]
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def render(report: Report, *, when: datetime | None = None) -> str:
    """The report as XML; `when` is the time that stands in it, now if not given."""
    stamp = (when or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    facts = {"reference": report.reference, "command": report.command, **report.versions}
    root = ElementTree.Element("testsuites")
    for place, suite in enumerate(_suites(report)):
        _add(root, place, suite, {**facts, "timestamp": stamp})
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suites(report: Report) -> Iterator[_Suite]:
    every = artifacts(report)
    for regime in report.regimes:
        layers = layers_on(regime, report)
        for artifact in every:
            if column := artifact.columns.get(regime.name):
                cases = (*_layer_cases(column, layers), _verdict_case(column))
                yield _Suite(regime.name, artifact.label, cases, column.seconds, column.notes)
    for artifact in every:
        if artifact.weights:
            yield _Suite("weights", artifact.label, _weight_cases(artifact))
    if report.rankings:
        yield _Suite("rankings", "images", tuple(map(_ranking_case, report.rankings)))
    if report.hashes:
        wrong = (_Case(file, "checksum", reason) for file, reason in report.hashes.items())
        yield _Suite("checksums", "manifest.json", tuple(wrong))
    if not every:
        yield _Suite("verify", "report", (_Case("verdict", "empty", verdict(report).sentence),))


def _layer_cases(column: Column, layers: tuple[str, ...]) -> Iterator[_Case]:
    results: dict[str, LayerResult] = {each.layer: each for each in column.layers}
    for layer in layers:
        result = results.get(layer)
        found = state(result)
        if result is None:
            yield _Case(layer, skipped="the artifact has no such layer to compare")
        elif found.bad:
            yield _Case(layer, found.value, describe(result))
        else:
            yield _Case(layer)


def _verdict_case(column: Column) -> _Case:
    found = column.verdict
    if found.passed:
        return _Case("verdict")
    return _Case("verdict", "verdict", found.sentence or found.cause or "it differs")


def _ranking_case(row: Ranking) -> _Case:
    return _Case(row.artifact) if row.passed else _Case(row.artifact, "ranking", ranking(row))


def _weight_cases(artifact: Artifact) -> tuple[_Case, ...]:
    return tuple(
        _Case(row.name) if row.passed else _Case(row.name, "weight", describe_weight(row))
        for row in artifact.weights
    )


def _add(root: ElementTree.Element, place: int, suite: _Suite, facts: dict[str, str]) -> None:
    counts = {
        "tests": len(suite.cases),
        "failures": sum(bool(case.failure) for case in suite.cases),
        "errors": 0,
        "skipped": sum(bool(case.skipped) for case in suite.cases),
    }
    attributes = {
        "id": str(place),
        "package": _text(suite.package),
        "name": _text(suite.name),
        "timestamp": facts["timestamp"],
        "hostname": "localhost",
        **{name: str(value) for name, value in counts.items()},
        "time": f"{suite.seconds:.3f}",
    }
    element = ElementTree.SubElement(root, "testsuite", attributes)
    properties = ElementTree.SubElement(element, "properties")
    for name, value in facts.items():
        if value and name != "timestamp":
            ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))
    # Servers take dots for packages.
    classname = ".".join(_text(each).replace(".", "_") for each in (suite.package, suite.name))
    for case in suite.cases:
        row = ElementTree.SubElement(
            element, "testcase", classname=classname, name=_text(case.name), time="0"
        )
        if case.failure:
            failure = ElementTree.SubElement(
                row, "failure", type=case.kind, message=_text(case.failure)
            )
            failure.text = _text(f"{suite.name}, {suite.package}, {case.name}: {case.failure}")
        if case.skipped:
            ElementTree.SubElement(row, "skipped", message=_text(case.skipped))
    ElementTree.SubElement(element, "system-out").text = "\n".join(map(_text, suite.notes))
    ElementTree.SubElement(element, "system-err")


def _text(text: str) -> str:
    """What XML can hold: `plain` leaves none of the characters that it cannot."""
    return plain(text) or "-"
