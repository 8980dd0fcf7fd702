"""The report for a terminal, or for a log: what is bad, the table of layers, the verdict."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from verify.report.findings import (
    Artifact,
    State,
    artifacts,
    findings,
    layer_names,
    state,
    telling,
)
from verify.report.words import (
    brief,
    carried,
    checksum,
    count,
    describe,
    describe_weight,
    inputs,
    plain,
    ranking,
    roundings,
    verdict,
)
from verify.result import LayerResult, Report

__all__ = ["render"]

#: State -> its mark, the same where only ASCII can be written, and its colour.
_MARKS: Mapping[State, tuple[str, str, str]] = {
    State.SAME: ("", "", "green"),
    State.ALLOWED: ("≈ ", "~ ", "cyan"),
    State.MADE: ("✗ ", "X ", "bold red"),
    State.CARRIED: ("↓ ", "v ", "yellow"),
    State.DIFFERENT: ("✗ ", "X ", "bold red"),
    State.IMPOSSIBLE: ("✗ ", "X ", "bold red"),
    State.ABSENT: ("", "", "dim"),
}

#: Below this width a row of the bad layers becomes lines.
_NARROW = 72
#: Greatest width of an artifact's column, the first with which all fit; else the last.
_WIDTHS = (32, 16, 12)
_LEAST = 8
#: Of a layer's name.
_NAME = 24


def render(report: Report, console: Console | None = None) -> str:
    """The report as text for `console`: its width, its colours, its characters.

    Without one: plain text, 100 columns. The last line is the verdict.
    """
    console = console or Console(file=io.StringIO(), width=100, color_system=None)
    with console.capture() as capture:
        for part in _parts(report, console):
            console.print(part, highlight=False)
            console.print()
        console.print(_sentence(report, console), soft_wrap=True, highlight=False)
    # Names of files can hold what the console's encoding cannot.
    text = capture.get().encode(console.encoding, "backslashreplace").decode(console.encoding)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _parts(report: Report, console: Console) -> Iterator[RenderableType]:
    bad = _bad_rows(report)
    if bad and console.width < _NARROW:
        yield Text("What is wrong", style="bold")
        yield from (Text.assemble(who, f"  {where}\n  {words}") for who, where, words in bad)
    elif bad:
        yield Text("What is wrong", style="bold")
        yield _bad_table(bad, console)
    every = artifacts(report)
    ran = [artifact for artifact in every if artifact.layers]  # not what holds weights alone
    names = layer_names(report)
    if names and ran:
        yield Text("Error of every layer, in roundings of float32", style="bold")
        longest = min(_NAME, max(len(plain(name)) for name in names))
        for some, most in _fitting(ran, console.width - longest - 1):
            yield _layer_table(names, some, most, console)
        yield _legend(report, console)
    for row in report.rankings:
        words = f"{plain(row.artifact)} beside {plain(row.against)}: {ranking(row)}"
        yield Text(words, style="green" if row.passed else "bold red")
    for artifact in every:
        for note in artifact.notes:
            yield Text(f"{plain(artifact.label)}: {plain(note)}", style="dim")


def _bad_rows(report: Report) -> list[tuple[Text, str, str]]:
    """What is bad, where, and in words: checksums, weights, layers."""
    rows = [
        (Text("checksum", style="bold red"), plain(file), checksum(reason))
        for file, reason in report.hashes.items()
    ]
    told, summed = findings(report)
    for artifact in artifacts(report):
        label = plain(artifact.label)
        for row in artifact.weights:
            if not row.passed:
                rows.append((Text(label, style="bold red"), plain(row.name), describe_weight(row)))
        for finding in told:
            if finding.artifact == artifact.label:
                words = describe(finding.result) + inputs(finding)
                head = Text(label, style=_MARKS[finding.state][2])
                rows.append((head, plain(finding.layer), words))
        for each in summed:
            if each.artifact == artifact.label:
                rows.append((Text(label, style="yellow"), "…", carried(each)))
    return rows


def _bad_table(rows: Sequence[tuple[Text, str, str]], console: Console) -> Table:
    table = _table(console)
    table.add_column("artifact", overflow="fold", max_width=24)
    table.add_column("where", overflow="fold", max_width=24)
    table.add_column("what", overflow="fold")
    for head, where, words in rows:
        table.add_row(head, Text(where), Text(words))
    return table


def _fitting(every: Sequence[Artifact], room: int) -> Iterator[tuple[Sequence[Artifact], int]]:
    """The artifacts in groups that fit side by side, with the greatest width of a column."""
    most = next((cap for cap in _WIDTHS if _width(every, cap) <= room), _WIDTHS[-1])
    start = 0
    while start < len(every):
        end = start + 1
        while end < len(every) and _width(every[start : end + 1], most) <= room:
            end += 1
        yield every[start:end], most
        start = end


def _width(every: Sequence[Artifact], most: int) -> int:
    return sum(min(max(len(plain(each.label)), _LEAST), most) + 2 for each in every)


def _layer_table(
    names: Sequence[str], every: Sequence[Artifact], most: int, console: Console
) -> Table:
    table = _table(console)
    table.add_column("layer", overflow="fold", max_width=_NAME)
    for artifact in every:
        head = Text(plain(artifact.label))
        table.add_column(head, justify="right", overflow="fold", max_width=most)
    for name in names:
        cells = [_cell(artifact.layers.get(name), console) for artifact in every]
        table.add_row(Text(plain(name)), *cells)
    return table


def _cell(result: LayerResult | None, console: Console) -> Text:
    mark, plain_mark, style = _MARKS[state(result)]
    return Text((plain_mark if _only_ascii(console) else mark) + _value(result), style=style)


def _value(result: LayerResult | None) -> str:
    if result is None:
        return "-"
    measure = telling(result)
    if state(result) is State.IMPOSSIBLE or measure is None:
        return brief(result.problem or "nothing")
    return roundings(measure.roundings)


def _legend(report: Report, console: Console) -> Text:
    place = 1 if _only_ascii(console) else 0
    made, carried, known = (
        _MARKS[each][place] for each in (State.MADE, State.CARRIED, State.ALLOWED)
    )
    several = len(report.regimes) > 1
    inputs = f"The worst of {count(len(report.regimes), 'input')}. " if several else ""
    words = f"{inputs}{made}made here, {carried}carried from an earlier layer, "
    words += f"{known}known and allowed, - no such layer"
    return Text(words, style="dim")


def _sentence(report: Report, console: Console) -> Text:
    found = verdict(report)
    marks = ("OK ", "FAILED ") if _only_ascii(console) else ("✓ ", "✗ ")
    words = plain(found.sentence)
    return Text(marks[not found.passed] + words, style="bold green" if found.passed else "bold red")


def _table(console: Console) -> Table:
    lines = box.SIMPLE_HEAD if console.is_terminal and not _only_ascii(console) else None
    return Table(box=lines, pad_edge=False, header_style="bold")


def _only_ascii(console: Console) -> bool:
    return console.options.ascii_only
