"""`report.md`, short, for a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from verify.report.findings import Artifact, artifacts, findings
from verify.report.words import (
    carried,
    checksum,
    count,
    describe,
    describe_weight,
    inputs,
    plain,
    ranking,
    shape,
    verdict,
)
from verify.result import Report

__all__ = ["render"]

#: Rows of a table; what is beyond them is counted.
_ROWS = 10

_Row = tuple[str, ...]


def render(report: Report) -> str:
    """GitHub's Markdown. What comes from files cannot become markup, links or mentions."""
    found = verdict(report)
    same = "a difference of known cause" if found.cause else "no difference"
    title = f"✅ netvlad-verify: {same}" if found.passed else "❌ netvlad-verify: different"
    blocks = [f"### {title}", _words(found.sentence)]
    if found.cause and found.cause not in found.sentence:
        blocks.append(f"Likely cause: {_words(found.cause)}")
    every = artifacts(report)
    blocks += _table(("artifact", "kind", "verdict", "layers", "weights"), map(_artifact, every))
    wrong = [(_code(file), _words(checksum(reason))) for file, reason in report.hashes.items()]
    blocks += _table(("wrong checksum", "what"), wrong)
    blocks += _table(("artifact", "tensor", "what"), _weights(every))
    blocks += _table(("artifact", "layer", "what"), _layers(report), "bad layer")
    ranked = ((_code(row.artifact), _words(ranking(row))) for row in report.rankings)
    blocks += _table(("artifact", "rankings"), list(ranked))
    fed = ", ".join(f"{_code(each.name)} {shape(each.shape)}" for each in report.regimes)
    facts = [f"Reference: {_code(report.reference)}."]
    facts += [f"Inputs: {fed}."] if fed else []
    facts += [f"Again: {_code(report.command)}."] if report.command else []
    return "\n\n".join([*blocks, " ".join(facts)]) + "\n"


def _artifact(artifact: Artifact) -> _Row:
    columns = artifact.columns.values()
    bad = [column.verdict for column in columns if not column.verdict.passed]
    where = bad[0].first_bad_layer if bad else ""
    same = "known cause" if any(column.verdict.cause for column in columns) else "same"
    words = same if not bad else f"**first bad layer {_code(where)}**" if where else "**different**"
    good = artifact.good_layers
    layers = f"{good} of {len(artifact.layers)}" if artifact.layers else "–"
    right = sum(row.passed for row in artifact.weights)
    weights = f"{right} of {len(artifact.weights)}" if artifact.weights else "–"
    return (_code(artifact.label), _words(artifact.kind), words, layers, weights)


def _weights(every: Sequence[Artifact]) -> Iterator[_Row]:
    for artifact in every:
        for row in artifact.weights:
            if not row.passed:
                yield _code(artifact.label), _code(row.name), _words(describe_weight(row))


def _layers(report: Report) -> Iterator[_Row]:
    told, summed = findings(report)
    for finding in told:
        words = _words(describe(finding.result) + inputs(finding))
        yield _code(finding.artifact), _code(finding.layer), words
    for each in summed:
        yield _code(each.artifact), "…", _words(carried(each))


def _table(head: _Row, rows: Iterator[_Row] | Sequence[_Row], noun: str = "row") -> list[str]:
    """A table of at most `_ROWS`; nothing without rows."""
    every = list(rows)
    if not every:
        return []
    lines = [head, tuple("---" for _ in head), *every[:_ROWS]]
    more = [f"and {count(len(every) - _ROWS, f'more {noun}')}"] if len(every) > _ROWS else []
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines), *more]


def _code(text: str) -> str:
    """A name as code, whatever is in it."""
    line = plain(text).replace("|", "\\|") or "-"
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{space}{line}{space}{fence}"


def _words(text: str) -> str:
    """A sentence as text: no markup, no link, no mention."""
    line = html.escape(plain(text), quote=False)
    line = re.sub(r"([\\`*{}\[\]|~#!]|(?<!\w)_|_(?!\w))", r"\\\1", line)
    # GitHub looks for mentions in the text as it comes out: a space of no width stands between.
    return line.replace("@", "@&#8203;").replace("://", "&#58;//").replace("www.", "www&#46;")
