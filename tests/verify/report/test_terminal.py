"""The report for a terminal: what comes first, what comes last, what fits."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from verify.report import terminal
from verify.result import Report

if TYPE_CHECKING:
    from tests.verify.report.conftest import Reports

SENTENCE = (
    "✗ model.onnx differs from the source: the first bad layer is conv3_2, "
    "where 1 of 589,824 values of conv3_2/kernel differs."
)


def console(width: int, encoding: str = "utf-8", colour: bool = False) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        legacy_windows=False,
    )


def test_what_is_bad_comes_first_and_the_verdict_last(reports: Reports) -> None:
    lines = terminal.render(reports.bad_weight).splitlines()
    assert lines[0] == "What is wrong"
    assert lines[3].split()[:2] == ["model.onnx", "conv3_2/kernel"]
    assert lines[-1] == SENTENCE
    assert lines.index("Error of every layer, in roundings of float32") < len(lines) - 36


def test_a_good_report_has_nothing_bad(reports: Reports) -> None:
    text = terminal.render(reports.passing)
    assert "wrong" not in text
    assert text.splitlines()[-1].startswith("✓ 6 artifacts against ")
    assert text.splitlines()[-1].endswith("no difference.")


def test_the_table_has_a_row_for_each_layer_and_a_column_for_each_artifact(
    reports: Reports,
) -> None:
    rows = {
        line.split()[0]: line.split()[1:]
        for line in terminal.render(reports.bad_weight).splitlines()
        if line
    }
    assert [name for name in rows if name in reports.bad_weight.layers] == list(
        reports.bad_weight.layers
    )
    assert rows["conv3_1"][0] == "2.38"  # what differs comes first
    assert rows["conv3_2"][:2] == ["✗", "812"]
    assert rows["relu3_2"][:2] == ["↓", "727"]
    assert len(rows["conv1_1"]) == 6


@pytest.mark.parametrize(
    ("name", "cell"),
    [("nan", "✗ NaN"), ("missing_layer", "✗ missing"), ("pool_relu", "✗ shape")],
)
def test_what_could_not_be_compared_is_said_in_its_cell(
    name: str, cell: str, reports: Reports
) -> None:
    assert cell in terminal.render(reports.named(name), console(120))


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40, 24])
@pytest.mark.parametrize("name", ["bad_weight", "pool_relu"])
def test_every_width(width: int, name: str, reports: Reports) -> None:
    report = reports.named(name)
    *lines, last = terminal.render(report, console(width)).splitlines()
    assert max(map(len, lines)) <= width
    words = "".join("".join(lines).split())
    for artifact in ("TF1graph", "model.keras", "saved_model", "model.onnx"):
        assert artifact in words or width < 60  # folded over two lines
    assert sum(line.split()[:1] == ["vlad:intranorm"] for line in lines) >= 1
    assert last.endswith(("conv3_2/kernel differs.", "before the pool."))


def test_plain_text_has_no_escapes_and_colours_do(reports: Reports) -> None:
    assert "\x1b" not in terminal.render(reports.bad_weight)
    text = terminal.render(reports.bad_weight, console(100, colour=True))
    assert re.search(r"\x1b\[1;31m *✗ 812", text)
    assert re.search(r"\x1b\[33m *↓ 727", text)
    assert "\x1b[32m" in text


def test_ascii_alone(reports: Reports) -> None:
    text = terminal.render(reports.bad_weight, console(100, "ascii"))
    assert text.isascii()
    assert "X 812" in text
    assert "v 727" in text
    assert text.splitlines()[-1].startswith("FAILED model.onnx differs")
    assert (
        terminal.render(reports.passing, console(100, "ascii")).splitlines()[-1].startswith("OK ")
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_whatever_a_file_is_called_it_can_be_printed(encoding: str, hostile: Report) -> None:
    target = console(90, encoding)
    target.file.write(terminal.render(hostile, target))
    target.file.flush()


def test_an_input_that_differs_alone_is_named(reports: Reports) -> None:
    good, bad = reports.passing.regimes, reports.missing_layer.regimes
    report = replace(reports.passing, regimes=(good[0], bad[1], good[2]))
    words = " ".join(terminal.render(report).split())
    assert "missing: no output goes by this name (only on black)" in words


def test_what_holds_weights_alone_has_no_column_of_dashes(reports: Reports) -> None:
    assert (
        terminal.render(reports.weights_alone).splitlines()[:-1]
        == (terminal.render(reports.passing).splitlines()[:-1])
    )
    assert "7 artifacts" in terminal.render(reports.weights_alone)


def test_of_a_digest_as_much_as_tells_it_apart(reports: Reports) -> None:
    wrong = {"model.onnx": f"has sha256 {'d8' * 32}, not {'43' * 32}"}
    lines = terminal.render(replace(reports.passing, hashes=wrong)).splitlines()
    assert lines[3].split(maxsplit=2) == [
        "checksum", "model.onnx", "has sha256 d8d8d8d8d8d8…, not 434343434343…",
    ]  # fmt: skip


def test_nothing_compared(reports: Reports) -> None:
    assert terminal.render(reports.empty) == "✗ Nothing was compared.\n"
