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
    worst,
)
from verify.report.words import (
    brief,
    count,
    describe,
    describe_weight,
    number,
    plain,
    verdict,
)
from verify.result import LayerResult, Report

__all__ = ["render"]

#: State -> its mark, the same where only ASCII can be written, and its colour.
_MARKS: Mapping[State, tuple[str, str, str]] = {
    State.SAME: ("", "", "green"),
    State.MADE: ("✗ ", "X ", "bold red"),
    State.CARRIED: ("↓ ", "v ", "yellow"),
    State.DIFFERENT: ("✗ ", "X ", "bold red"),
    State.IMPOSSIBLE: ("✗ ", "X ", "bold red"),
    State.ABSENT: ("", "", "dim"),
}

#: Below this width a row of the bad layers becomes lines.
_NARROW = 72
#: Widths of a column of the table of layers.
_LEAST, _MOST = 8, 16
#: Carried errors beyond this many are counted: the first bad layer makes all that follow.
_CARRIED = 3


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
    return capture.get().encode(console.encoding, "backslashreplace").decode(console.encoding)


def _parts(report: Report, console: Console) -> Iterator[RenderableType]:
    bad = _bad_rows(report, console)
    if bad and console.width < _NARROW:
        yield Text("What is wrong", style="bold")
        yield from (Text.assemble(*row, f"\n  {words}") for *row, words in _spaced(bad))
    elif bad:
        yield _bad_table(bad, console)
    every = artifacts(report)
    for some in _fitting(every, report, console.width):
        yield _layer_table(report, some, console)
    if every:
        yield _legend(report, console)
    for artifact in every:
        for note in artifact.notes:
            yield Text(f"{plain(artifact.label)}: {plain(note)}", style="dim")


def _bad_rows(report: Report, console: Console) -> list[tuple[Text, str, str]]:
    """What is bad, where, and in words: checksums, weights, layers."""
    rows = [
        (Text("checksum", style="bold red"), plain(file), plain(reason))
        for file, reason in report.hashes.items()
    ]
    for artifact in artifacts(report):
        rows += [
            (Text(plain(artifact.label), style="bold red"), plain(row.name), describe_weight(row))
            for row in artifact.weights
            if not row.passed
        ]
    carried: dict[str, int] = {}
    for finding in findings(report):
        if finding.state is State.CARRIED:
            carried[finding.artifact] = carried.get(finding.artifact, 0) + 1
            if carried[finding.artifact] > _CARRIED:
                continue
        inputs = f" ({', '.join(map(plain, finding.inputs))})" if len(report.regimes) > 1 else ""
        style = _MARKS[finding.state][2]
        words = describe(finding.result) + inputs
        rows.append((Text(plain(finding.artifact), style=style), plain(finding.layer), words))
    rows += [
        (Text(plain(name), style="yellow"), "…", f"{count(n - _CARRIED, 'more layer')} likewise")
        for name, n in carried.items()
        if n > _CARRIED
    ]
    return rows


def _spaced(rows: Sequence[tuple[Text, str, str]]) -> Iterator[tuple[Text, str, str]]:
    for head, where, words in rows:
        yield head, f"  {where}", words


def _bad_table(rows: Sequence[tuple[Text, str, str]], console: Console) -> Table:
    table = _table("What is wrong", console)
    table.add_column("artifact", overflow="fold", max_width=24)
    table.add_column("where", overflow="fold", max_width=24)
    table.add_column("what", overflow="fold")
    for head, where, words in rows:
        table.add_row(head, Text(where), Text(words))
    return table


def _fitting(every: Sequence[Artifact], report: Report, width: int) -> Iterator[Sequence[Artifact]]:
    """The artifacts in groups whose columns fit side by side."""
    names = max((len(plain(name)) for name in layer_names(report)), default=0)
    room = max(1, (width - names - 3) // (_width(every) + 2))
    for start in range(0, len(every), room):
        yield every[start : start + room]


def _width(every: Sequence[Artifact]) -> int:
    longest = max((len(plain(artifact.label)) for artifact in every), default=0)
    return min(max(longest, _LEAST), _MOST)


def _layer_table(report: Report, every: Sequence[Artifact], console: Console) -> Table:
    table = _table("Error of every layer, in roundings of float32", console)
    table.add_column("layer", no_wrap=True)
    for artifact in every:
        name = Text(plain(artifact.label))
        table.add_column(
            name, justify="right", overflow="fold", max_width=_width(artifacts(report))
        )
    for layer in layer_names(report):
        cells = [_cell(artifact, layer, console) for artifact in every]
        table.add_row(Text(plain(layer)), *cells)
    return table


def _cell(artifact: Artifact, layer: str, console: Console) -> Text:
    columns = artifact.columns.values()
    result = worst(row for c in columns for row in c.layers if row.layer == layer)
    found = state(result)
    mark, plain_mark, style = _MARKS[found]
    words = _value(result)
    return Text((plain_mark if _only_ascii(console) else mark) + words, style=style)


def _value(result: LayerResult | None) -> str:
    if result is None:
        return "-"
    measure = telling(result)
    if state(result) is State.IMPOSSIBLE or measure is None:
        return brief(result.problem or "nothing")
    return number(measure.roundings)


def _legend(report: Report, console: Console) -> Text:
    place = 1 if _only_ascii(console) else 0
    made, carried = (_MARKS[each][place] for each in (State.MADE, State.CARRIED))
    several = len(report.regimes) > 1
    inputs = f"The worst of {count(len(report.regimes), 'input')}. " if several else ""
    words = f"{inputs}{made}made here, {carried}carried from an earlier layer, - no such layer"
    return Text(words, style="dim")


def _sentence(report: Report, console: Console) -> Text:
    found = verdict(report)
    marks = ("OK ", "FAILED ") if _only_ascii(console) else ("✓ ", "✗ ")
    words = plain(found.sentence)
    return Text(marks[not found.passed] + words, style="bold green" if found.passed else "bold red")


def _table(title: str, console: Console) -> Table:
    lines = box.SIMPLE_HEAD if console.is_terminal and not _only_ascii(console) else None
    head = Text(title, style="bold")
    return Table(title=head, title_justify="left", box=lines, pad_edge=False, header_style="bold")


def _only_ascii(console: Console) -> bool:
    return console.options.ascii_only
