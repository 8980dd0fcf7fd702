"""How a report speaks: numbers, names and sentences that all its forms share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from verify.report.findings import Carried, Finding, State, artifacts, state
from verify.result import LayerResult, Measure, Ranking, Report, Verdict, WeightResult

__all__ = [
    "brief",
    "carried",
    "checksum",
    "cosine",
    "count",
    "describe",
    "describe_weight",
    "index",
    "inputs",
    "number",
    "pair",
    "plain",
    "ranking",
    "roundings",
    "shape",
    "verdict",
]


def number(value: float) -> str:
    """Three digits: `0`, `0.92`, `812`, `1.20e-7`, `∞`, `NaN`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if 100 <= abs(value) < 1e6:
        return f"{value:.0f}"
    if 0.01 <= abs(value) < 100:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def roundings(value: float) -> str:
    """An error in roundings, so that a column lines up: `0`, `0.92`, `14.1`, `812`, `2.10e6`."""
    if 0.01 <= value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if 10 <= value < 100 else number(value)


def pair(found: float, reference: float) -> str:
    """`0.0327 instead of 0.0312`, with as many digits as it takes to tell them apart."""
    texts = number(found), number(reference)
    for digits in range(4, 18):
        if texts[0] != texts[1] or not (math.isfinite(found) and math.isfinite(reference)):
            break
        texts = f"{found:.{digits}g}", f"{reference:.{digits}g}"
    return f"{texts[0]} instead of {texts[1]}"


def cosine(value: float) -> str:
    """Twelve decimals, since 0.997 is a broken net."""
    if not math.isfinite(value):
        return number(value)
    return f"{value:.12f}".rstrip("0").rstrip(".")


def count(items: int, noun: str) -> str:
    """`1 layer`, `36 layers`, `14,714,688 values`."""
    return f"{items:,} {noun}{'' if items == 1 else 's'}"


def carried(found: Carried) -> str:
    """`relu3_2 to finalL2: 22 layers only carry the error of an earlier one`."""
    verb = "carry" if found.layers > 1 else "carries"
    span = found.first if found.layers == 1 else f"{found.first} to {found.last}"
    return plain(f"{span}: {count(found.layers, 'layer')} only {verb} the error of an earlier one")


def inputs(finding: Finding) -> str:
    """`` where it is on all of them, else ` (only on black)` or ` (not on black)`, the shorter."""
    if not finding.spared:
        return ""
    word, names = "only", finding.inputs
    if len(finding.spared) < len(names):
        word, names = "not", finding.spared
    return f" ({word} on {', '.join(map(plain, names))})"


def shape(sizes: Sequence[int]) -> str:
    """`1×480×640×64`."""
    return "×".join(map(str, sizes))


def index(place: Sequence[int]) -> str:
    """`[0, 12, 7, 31]`."""
    return f"[{', '.join(map(str, place))}]"


def plain(text: str) -> str:
    """One line that prints as what it is.

    Names come from files that others wrote: line breaks become spaces, and control characters
    (escape sequences, text that runs backwards) are spelt out.
    """
    line = " ".join(text.split())
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in line
    )


#: What stands in a problem -> what a table's cell says.
_BRIEF: Mapping[str, str] = {
    "NaN": "NaN",
    "shape": "shape",
    "missing": "missing",
    "no such layer": "missing",
    "extra": "extra",
    "source has no layer": "extra",
    "empty": "empty",
}


def brief(problem: str) -> str:
    """A problem in a table's cell: what it is about, else how it begins."""
    for part, word in _BRIEF.items():
        if part in problem:
            return word
    head = plain(problem)
    return head if len(head) <= 14 else f"{head[:13]}…"


def checksum(reason: str) -> str:
    """What is wrong with a file; of digests as much as tells them apart: `d89bbe4b407d…`."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1…", plain(reason))


def ranking(row: Ranking) -> str:
    """`L2 up to 3.1e-7 (img.jpg), 100 % of first matches and 100 % of top 10 the same`."""
    return (
        f"L2 up to {number(row.max_l2)} ({plain(row.worst)}; limit {number(row.limit)}), "
        f"{100 * row.top1:.3g} % of first matches the same (limit {100 * row.least:.3g} %), "
        f"{100 * row.topk:.3g} % of the first {row.k}"
    )


def describe(result: LayerResult) -> str:
    """One layer's result in words."""
    own, inherited = result.own, result.inherited
    found = state(result)
    if found is State.IMPOSSIBLE or not (own or inherited):
        return plain(result.problem) or "nothing was compared"
    if found is State.MADE and own:
        return f"made here: {_error('own error', own)}; {_place(own)}"
    if found is State.CARRIED and own and inherited:
        return f"carried: {_error('error', inherited)}, " + _error("own error", own)
    if inherited and found is State.DIFFERENT:
        return f"different: {_error('error', inherited)}, not replayed alone; {_place(inherited)}"
    parts = {"own error": own, "inherited": inherited}
    verdict = "known and allowed" if found is State.ALLOWED else "within limits"
    return f"{verdict}: " + ", ".join(_error(n, m) for n, m in parts.items() if m)


def _error(name: str, measure: Measure) -> str:
    """Names the peak only where it is the peak that is too large."""
    if measure.roundings <= measure.limit and not measure.passed:
        name, value, limit = f"{name} at its peak", measure.peak, measure.peak_limit
    else:
        value, limit = measure.roundings, measure.limit
    return f"{name} {roundings(value)} roundings (limit {number(limit)})"


def _place(measure: Measure) -> str:
    values = pair(measure.found, measure.reference)
    return f"the worst element {index(measure.worst)} is {values}"


def describe_weight(weight: WeightResult) -> str:
    """One tensor's result in words."""
    if weight.problem:
        return plain(weight.problem)
    if weight.passed:
        return f"all {count(weight.size, 'value')} the same"
    verb = "differs" if weight.different == 1 else "differ"
    values = pair(weight.found, weight.source)
    return (
        f"{weight.different:,} of {count(weight.size, 'value')} {verb}, "
        f"the most at {index(weight.worst)}: {values}"
    )


def verdict(report: Report) -> Verdict:
    """The whole report's verdict: the first failure's, or one that counts what was compared."""
    every = artifacts(report)
    if not every:
        return Verdict(False, sentence="Nothing was compared.")
    for artifact in every:
        failed = (column for column in artifact.columns.values() if not column.verdict.passed)
        if first := next(failed, None):
            sentence = first.verdict.sentence.replace(first.artifact or "\0", artifact.label, 1)
            others = sum(not each.passed for each in every) - 1
            return _named(replace(first.verdict, sentence=sentence), artifact.label, others)
    ran = len({name for each in every for name in each.layers})
    part = f"{ran} of " if ran < len(report.layers) else ""
    compared = (
        f"{count(len(every), 'artifact')} against {plain(report.reference)}: "
        f"{part}{count(len(report.layers), 'layer')} and "
        f"{count(sum(len(each.weights) for each in every), 'tensor')} compared "
        f"on {count(len(report.regimes), 'input')}"
    )
    if report.hashes:
        return Verdict(
            False,
            cause="a file is not the one that the manifest describes",
            sentence=f"{compared}, no difference, but the checksum of "
            f"{count(len(report.hashes), 'file')} is wrong: {plain(', '.join(report.hashes))}.",
        )
    if bad := [row for row in report.rankings if not row.passed]:
        others = len(bad) - 1
        more = f"; {count(others, 'other artifact')} too" if others else ""
        return Verdict(
            False,
            cause=f"it ranks images otherwise than {plain(bad[0].against)}",
            sentence=f"{compared}, no difference, but {plain(bad[0].artifact)} describes images "
            f"otherwise than {plain(bad[0].against)}: {ranking(bad[0])}{more}.",
        )
    if report.rankings:
        compared += f", {report.rankings[0].queries:,} queries ranked"
    excused = [c.verdict for each in every for c in each.columns.values() if c.verdict.cause]
    if excused:
        words = "; ".join(dict.fromkeys(plain(each.sentence) for each in excused))
        return Verdict(True, cause=excused[0].cause, sentence=f"{compared}; {words}.")
    return Verdict(True, sentence=f"{compared}, no difference.")


def _named(failed: Verdict, artifact: str, others: int) -> Verdict:
    """With one sentence: the artifact's name is in it, and how many others differ too."""
    sentence = plain(failed.sentence).rstrip(".")
    if not sentence:
        facts = [
            f"the first bad layer is {failed.first_bad_layer}" * bool(failed.first_bad_layer),
            f"its tensor {failed.tensor} differs" * bool(failed.tensor),
            failed.cause,
        ]
        sentence = plain("; ".join(filter(None, facts)) or "it differs from the source")
    if plain(artifact) not in sentence:
        sentence = f"{plain(artifact)}: {sentence}"
    if others:
        more = count(others, "other artifact")
        sentence += f"; {more} {'differs' if others == 1 else 'differ'} too"
    return Verdict(False, failed.first_bad_layer, failed.tensor, failed.cause, f"{sentence}.")
