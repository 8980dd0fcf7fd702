"""The HTML page as text: self-contained, escaped, small; and where things stand in its figures."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from verify.report import figures, html
from verify.report.drawing import Axis, line, power, steps
from verify.report.findings import artifacts
from verify.result import Report

if TYPE_CHECKING:
    from tests.verify.report.conftest import Reports

#: Elements without a closing tag, and those whose closing tag HTML lets one leave out.
VOID = {"meta", "link", "input", "br", "img"}
OPEN_ENDED = {"td", "th", "tr", "tbody", "thead", "option"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.code: dict[str, list[str]] = {"script": [], "style": [], "h1": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID | OPEN_ENDED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPEN_ENDED:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.code:
            self.code[self.open[-1]].append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("name", ["passing", "bad_weight", "pool_relu", "empty"])
def test_the_page_is_whole_and_asks_for_nothing(name: str, reports: Reports) -> None:
    page = Page(html.render(reports.named(name)))
    assert page.open == []  # everything that was opened was closed, in order
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert all((a.get("href") or "").startswith("#") for a in page.all("a"))
    assert not any({"src", "style", "onclick", "onload"} & set(each) for _, each in page.elements)
    assert not re.search(r"@import|url\(|https?:", "".join(page.code["style"]))
    assert not re.search(r"fetch|import\(|XMLHttp|innerHTML|eval", "".join(page.code["script"]))
    ids = Counter(each["id"] for _, each in page.elements if "id" in each)
    assert max(ids.values()) == 1
    targets = {(a["href"] or "")[1:] for a in page.all("a")}
    assert targets <= set(ids)


def test_the_policy_allows_this_script_and_this_style_alone(reports: Reports) -> None:
    page = Page(html.render(reports.passing))
    (policy,) = [each["content"] or "" for each in page.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none'; ")
    for kind in ("script", "style"):
        (code,) = page.code[kind]
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_no_name_becomes_markup(hostile: Report, reports: Reports) -> None:
    page, like = Page(html.render(hostile)), Page(html.render(reports.bad_weight))
    assert page.open == []
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in like.elements}
    assert len(page.all("script")) == 1
    attributes = {name for _, each in page.elements for name in each}
    assert attributes <= {name for _, each in like.elements for name in each}


def test_the_verdict_is_the_first_heading(reports: Reports) -> None:
    page = Page(html.render(reports.bad_weight))
    assert page.code["h1"] == [
        "model.onnx differs from the source: the first bad layer is conv3_2, "
        "where 1 of 589,824 values of conv3_2/kernel differs."
    ]


def test_every_table_says_what_it_is(reports: Reports) -> None:
    page = Page(html.render(reports.bad_weight))
    assert len(page.all("table")) == len(page.all("caption")) >= 8
    assert all("scope" in each for each in page.all("th"))
    for kind in ("input", "select"):
        for each in page.all(kind):
            assert each.get("type") in ("radio", "checkbox", None) or each["aria-label"]


def test_eight_inputs_stay_small_and_quick(reports: Reports) -> None:
    assert len(reports.large.regimes) == 8
    start = time.perf_counter()
    text = html.render(reports.large)
    assert time.perf_counter() - start < 5
    assert len(text.encode()) < 2_000_000
    assert text.count('<tr id="d') == 8 * 6 * 36


def test_many_faults_are_folded_away(reports: Reports) -> None:
    regime = reports.passing.regimes[0]
    stale = tuple(replace(row, different=row.size) for row in regime.columns[0].weights)
    column = replace(regime.columns[0], weights=stale)
    text = html.render(replace(reports.passing, regimes=(replace(regime, columns=(column,)),)))
    assert "<summary>and 23 more differences</summary>" in text


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([], -8, -5),
        ([3e-7, 2e-4], -7, -3),
        ([5e-6], -6, -3),
        ([0.0, math.inf, math.nan, 1e-7], -7, -4),
        ([1e-300, 1e300], -12, 9),
        ([1e20], 6, 9),
    ],
)
def test_axis_over(values: list[float], low: int, high: int) -> None:
    axis = Axis.over(values, 100, 0, 110)
    assert (axis.low, axis.high) == (low, high)


@pytest.mark.parametrize(
    ("value", "pixel"),
    [
        (1e-8, 300.0),
        (1e-6, 200.0),
        (1e-2, 0.0),
        (0.0, 330.0),
        (1e-20, 300.0),
        (1e5, 0.0),
        (math.inf, 0.0),
        (math.nan, 0.0),
    ],
)
def test_a_value_on_the_axis(value: float, pixel: float) -> None:
    assert Axis(-8, -2, 300, 0, 330)(value) == pixel


def test_ticks() -> None:
    assert Axis(-2, 1, 300, 0, 330).ticks() == [
        (300.0, "10⁻²"),
        (200.0, "10⁻¹"),
        (100.0, "1"),
        (0.0, "10"),
    ]
    assert power(-12) == "10⁻¹²"
    assert len(Axis(-12, 8, 300, 0, 330).ticks()) == 11


def test_a_line_has_gaps_and_rings() -> None:
    found = line([(0, 1), (2, 3), None, (4, 5), (6, 7)], [False, True, True, False, False], 1)
    assert found.path == "M0 1L2 3M4 5L6 7"
    assert found.markers.count("M") == 4
    assert found.rings.startswith("M2 3")
    assert found.rings.count("M") == 1


def test_steps_show_a_single_value_among_many() -> None:
    assert steps([], 10, 10) == steps([0, 0], 10, 10) == ""
    assert steps([0, 99_999, 1, 0], 40, 20) == "M0 20h10v-20h10v19h10v1h10v0z"


def test_where_nothing_was_compared_the_figure_has_a_cross_and_a_gap(reports: Reports) -> None:
    report = reports.missing_layer
    columns = [artifact.columns["photograph"] for artifact in artifacts(report)]
    results = [{row.layer: row for row in column.layers} for column in columns]
    figure = figures.depth(report.layers, artifacts(report), results, {"conv1_1": 2e-7})
    assert [bool(lost) for lost in figure.lost] == [True] + [False] * 5
    assert figure.lines[0].path.count("M") == 2
    assert [name for _, name, bad in figure.names if bad] == ["relu4_1"]
    assert [bar is not None for bar in figure.bars] == [False, True] + [False] * 34
    hit = figure.hits[report.layers.index("relu4_1")].splitlines()
    assert hit[0] == "relu4_1"
    assert hit[1] == "✗ missing  saved_model"
    assert figure.step == 26
    assert figure.width == 50 + 36 * 26 + 8
    few = figures.depth(report.layers[:3], artifacts(report), results, {})
    assert (few.step, few.width) == (300, 958)  # a short net fills the figure
    assert figures.scatter(artifacts(report), results).left_out == 1
