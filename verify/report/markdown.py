"""`report.md`, short, for a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from verify.report.findings import Artifact, State, artifacts, findings
from verify.report.words import count, describe, describe_weight, plain, verdict
from verify.result import Report

__all__ = ["render"]

#: Rows of a table; what is beyond them is counted.
_ROWS = 10

_Row = tuple[str, ...]


def render(report: Report) -> str:
    """GitHub's Markdown. What comes from files cannot become markup, links or mentions."""
    found = verdict(report)
    title = "✅ netvlad-verify: no difference" if found.passed else "❌ netvlad-verify: different"
    blocks = [f"### {title}", _words(found.sentence)]
    if found.cause and found.cause not in found.sentence:
        blocks.append(f"Likely cause: {_words(found.cause)}")
    every = artifacts(report)
    blocks += _table(("artifact", "kind", "verdict", "layers", "weights"), map(_artifact, every))
    checksums = [(_code(file), _words(reason)) for file, reason in report.hashes.items()]
    blocks += _table(("wrong checksum", "what"), checksums)
    blocks += _table(("artifact", "tensor", "what"), _weights(every))
    blocks += _table(("artifact", "layer", "what"), _layers(report), "bad layer")
    inputs = ", ".join(f"{_code(each.name)} {_shape(each.shape)}" for each in report.regimes)
    facts = [f"Reference: {_code(report.reference)}."]
    facts += [f"Inputs: {inputs}."] if inputs else []
    facts += [f"Again: {_code(report.command)}."] if report.command else []
    return "\n\n".join([*blocks, " ".join(facts)]) + "\n"


def _artifact(artifact: Artifact) -> _Row:
    columns = artifact.columns.values()
    rows = [row for column in columns for row in column.layers]
    bad = [column.verdict for column in columns if not column.verdict.passed]
    where = bad[0].first_bad_layer if bad else ""
    words = (
        "same" if not bad else f"**first bad layer {_code(where)}**" if where else "**different**"
    )
    good = sum(row.passed for row in rows)
    right = sum(row.passed for row in artifact.weights)
    weights = f"{right} of {len(artifact.weights)}" if artifact.weights else "–"
    return (_code(artifact.label), _words(artifact.kind), words, f"{good} of {len(rows)}", weights)


def _weights(every: Sequence[Artifact]) -> Iterator[_Row]:
    for artifact in every:
        for row in artifact.weights:
            if not row.passed:
                yield _code(artifact.label), _code(row.name), _words(describe_weight(row))


def _layers(report: Report) -> Iterator[_Row]:
    for finding in findings(report):
        if finding.state is not State.CARRIED:
            words = _words(f"{describe(finding.result)} (on {', '.join(finding.inputs)})")
            yield _code(finding.artifact), _code(finding.layer), words
    for artifact in artifacts(report):
        found = [each for each in findings(report) if each.artifact == artifact.label]
        carried = [each.layer for each in found if each.state is State.CARRIED]
        if carried:
            ends = (
                _code(carried[0])
                if len(carried) == 1
                else (f"{_code(carried[0])} to {_code(carried[-1])}")
            )
            words = f"{count(len(carried), 'layer')} carried from an earlier one"
            yield _code(artifact.label), ends, words


def _table(head: _Row, rows: Iterator[_Row] | Sequence[_Row], noun: str = "row") -> list[str]:
    """A table of at most `_ROWS`; nothing without rows."""
    every = list(rows)
    if not every:
        return []
    lines = [head, tuple("---" for _ in head), *every[:_ROWS]]
    more = [f"and {count(len(every) - _ROWS, f'more {noun}')}"] if len(every) > _ROWS else []
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines), *more]


def _shape(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _code(text: str) -> str:
    """A name as code, whatever is in it."""
    line = plain(text).replace("|", "\\|") or "-"
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{space}{line}{space}{fence}"


def _words(text: str) -> str:
    """A sentence as text."""
    line = html.escape(plain(text), quote=False).replace("@", "&#64;")
    return re.sub(r"([\\`*_{}\[\]|~#!])", r"\\\1", line)
