"""The HTML page in a real browser: what it shows, what can be done with it, who can read it.

With NETVLAD_PICTURES=FOLDER in the environment that folder gets pictures of whole pages.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verify.report import html

if TYPE_CHECKING:
    from tests.conftest import Browser
    from tests.verify.report.conftest import Reports

from verify.result import Report

NAMES = ("passing", "bad_weight", "missing_layer", "nan", "pool_relu", "wrong_hash", "empty")


@pytest.fixture
def page(browser: Browser, tmp_path: Path, reports: Reports) -> Path:
    """The report with one bad weight, open in a wide window."""
    path = tmp_path / "report.html"
    path.write_text(html.render(reports.bad_weight), "utf-8")
    browser.open(path)
    return path


def rows(browser: Browser, table: str, *cells: int) -> list[list[str]]:
    """Texts of some cells of the rows that can be seen."""
    found: list[list[str]] = browser.run(
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)]"
        ".filter(row => row.checkVisibility())"
        ".map(row => arguments[1].map(n => row.cells[n].textContent.trim()))",
        table,
        cells,
    )
    return found


def click(browser: Browser, selector: str) -> None:
    browser.run("document.querySelector(arguments[0]).click()", selector)


def write(browser: Browser, table: str, text: str) -> str:
    """Into a table's filter; gives what it says of the rows."""
    said: str = browser.run(
        "const form = document.querySelector(`.filter[data-table=${arguments[0]}]`);"
        "const box = form.querySelector('[type=search]');"
        "box.value = arguments[1]; box.dispatchEvent(new Event('input', {bubbles: true}));"
        "return form.querySelector('output').value",
        table,
        text,
    )
    return said


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_from_the_disk_and_asks_for_nothing(
    name: str, browser: Browser, tmp_path: Path, reports: Reports
) -> None:
    path = tmp_path / "report.html"
    path.write_text(html.render(reports.named(name)), "utf-8")
    for width, dark in ((1280, False), (320, True)):
        browser.open(path, width=width, dark=dark)
        assert browser.problems() == []
        assert browser.requests() == [path.as_uri()]
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run("return document.querySelectorAll('.panel').length") in (0, 3)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark, width=390)
    assert browser.faint() == []
    assert browser.run("return document.documentElement.scrollWidth") == 390
    back = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(18, 21, 24)" if dark else "rgb(246, 247, 248)")


@pytest.mark.usefixtures("page")
def test_sorting(browser: Browser) -> None:
    before = rows(browser, "n0", 0, 1)
    assert before[13] == ["conv3_2", "✗ 812"]
    head = "#n0 th:nth-child(2)"
    click(browser, f"{head} button")
    up = [float(text.split()[-1]) for _, text in rows(browser, "n0", 0, 1)]
    assert up == sorted(up)
    assert browser.run(f"return document.querySelector('{head}').ariaSort") == "ascending"
    click(browser, f"{head} button")
    assert rows(browser, "n0", 0, 1)[0] == ["conv3_2", "✗ 812"]
    assert browser.run(f"return document.querySelector('{head}').ariaSort") == "descending"
    click(browser, f"{head} button")
    assert rows(browser, "n0", 0, 1) == before
    click(browser, "#d0 th:nth-child(2) button")  # by name
    assert rows(browser, "d0", 0, 1)[0] == ["input", "model.h5"]
    click(browser, "#d0 th:nth-child(1) button")  # by depth, not by the alphabet
    assert [row[0] for row in rows(browser, "d0", 0)][::6][:5] == [
        "input",
        "conv1_1",
        "relu1_1",
        "conv1_2",
        "pool1",
    ]


@pytest.mark.usefixtures("page")
def test_filters(browser: Browser) -> None:
    assert write(browser, "n0", "conv3") == "3 of 36 rows"
    assert [row[0] for row in rows(browser, "n0", 0)] == ["conv3_1", "conv3_2", "conv3_3"]
    click(browser, ".filter[data-table=n0] [type=checkbox]")
    assert [row[0] for row in rows(browser, "n0", 0)] == ["conv3_2", "conv3_3"]
    assert write(browser, "n0", "no such layer") == "0 of 36 rows"
    assert write(browser, "d0", "onnx carried conv5") == "3 of 216 rows"
    assert write(browser, "weights-table", "/kernel") == "15 of 31 rows"
    click(browser, ".filter[data-table=weights-table] [type=checkbox]")
    assert [row[0] for row in rows(browser, "weights-table", 0)] == ["conv3_2/kernel"]


@pytest.mark.usefixtures("page")
def test_inputs_and_artifacts_can_be_chosen(browser: Browser) -> None:
    seen = "return [...document.querySelectorAll('.panel')].map(each => each.checkVisibility())"
    assert browser.run(seen) == [True, False, False]
    click(browser, "input[value=input-2]")
    assert browser.run(seen) == [False, False, True]
    click(browser, "input[name=artifact][value='5']")
    assert len(rows(browser, "d2", 0)) == 5 * 36
    shown = (
        "return [...document.querySelectorAll('#input-2 .a5')]"
        ".filter(each => getComputedStyle(each).display !== 'none').length"
    )
    assert browser.run(shown) == 0
    click(browser, "input[name=artifact][value='5']")
    assert browser.run(shown) > 100


def test_a_report_opens_on_the_first_input_that_differs(
    browser: Browser, tmp_path: Path, reports: Reports
) -> None:
    good, bad = reports.passing.regimes, reports.bad_weight.regimes
    report = Report(reports.passing.reference, reports.passing.layers, (good[0], bad[1]))
    path = tmp_path / "report.html"
    path.write_text(html.render(report), "utf-8")
    browser.open(path)
    seen = "return [...document.querySelectorAll('.panel')].map(each => each.checkVisibility())"
    assert browser.run(seen) == [False, True]


@pytest.mark.usefixtures("page")
def test_a_cell_leads_to_its_numbers(browser: Browser) -> None:
    write(browser, "d0", "model.keras")
    click(browser, "#n0 td.made a")
    assert browser.run("return document.activeElement.id") == "d0-0-13"
    assert rows(browser, "d0", 0, 1, 2)[13] == ["conv3_2", "model.onnx", "✗ made here"]
    box = "const b = document.activeElement.getBoundingClientRect();"
    assert browser.run(f"{box} return b.top > 0 && b.bottom < innerHeight")
    write(browser, "d0", "model.keras")
    click(browser, "#n0 td.made a")  # the same link once more
    assert len(rows(browser, "d0", 0)) == 216


@pytest.mark.usefixtures("page")
def test_the_table_shows_any_of_the_numbers(browser: Browser) -> None:
    choose = (
        "const box = document.querySelector(arguments[0]);"
        "box.value = [...box.options].find(each => each.text === arguments[1]).value;"
        "box.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    browser.run(choose, "[data-to=n0]", "own roundings")
    assert rows(browser, "n0", 0, 1)[13:15] == [["conv3_2", "✗ 812"], ["relu3_2", "↓ 0"]]
    browser.run(choose, "[data-to=n0]", "inherited SNR dB")
    assert rows(browser, "n0", 0, 1)[0] == ["input", "∞"]
    browser.run(choose, "[data-to=n0]", "roundings of what decides")
    assert rows(browser, "n0", 0, 1)[14] == ["relu3_2", "↓ 727"]
    heads = (
        "return [...document.querySelectorAll('#d0 thead th')].slice(4)"
        ".filter(each => each.checkVisibility())"
        ".map(each => each.querySelector('small').textContent)"
    )
    assert browser.run(heads).count("own") == 2
    for show, own, inherited in (("own", 12, 0), ("inherited", 0, 12), ("all", 12, 12)):
        browser.run(
            "const box = document.querySelector('[data-columns=d0]'); box.value = arguments[0];"
            "box.dispatchEvent(new Event('change'))",
            show,
        )
        found = browser.run(heads)
        assert (found.count("own"), found.count("inherited")) == (own, inherited)


@pytest.mark.usefixtures("page")
def test_values_by_pointer_and_by_keys(browser: Browser) -> None:
    x, y = browser.run(
        "const mark = document.querySelectorAll('#input-0 .hit')[13];"
        "mark.scrollIntoView({block: 'center'});"
        "const box = mark.getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]"
    )
    browser.run("return new Promise(done => setTimeout(done, 100))")
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tip = "const t = document.getElementById('tip'); return t.hidden ? '' : t.textContent"
    lines = browser.run(tip).splitlines()
    assert lines[0] == "conv3_2"
    assert lines[2].endswith("model.onnx ✗ made here")
    assert len(lines) == 8
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert browser.run(tip) == ""
    browser.run("document.querySelector('#input-0 .chart').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.run("return new Promise(done => setTimeout(done, 100))")
    assert browser.run(tip).startswith("conv1_1\n")
    browser.press("Escape")
    assert browser.run(tip) == ""


def test_on_paper(browser: Browser, page: Path) -> None:
    browser.open(page, dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.command("Emulation.setEmulatedMedia", media="print", features=[dark])
    shown = "return [...document.querySelectorAll(arguments[0])].some(e => e.checkVisibility())"
    assert not browser.run(shown, ".controls, .filter, nav, select")
    assert browser.run(shown, "#n0")
    assert browser.run("return document.querySelector('.tall').scrollHeight") == browser.run(
        "return document.querySelector('.tall').clientHeight"
    )
    assert browser.faint() == []
    back = "return getComputedStyle(document.querySelector('.seal')).backgroundColor"
    assert browser.run(back) == "rgb(253, 234, 232)"  # light, whatever the screen's scheme


def test_on_a_phone_the_artifact_that_differs_is_in_sight(browser: Browser, page: Path) -> None:
    browser.open(page, width=390)
    for cell in ("#n0 td.made", "#weights-table td.made"):
        left = browser.run(
            "return document.querySelector(arguments[0]).getBoundingClientRect().left", cell
        )
        assert 0 < left < 390
    sizes = browser.run(
        "return ['.scatter .tick', '.cell .tiny', '.chart .tick'].map(name => {"
        "const text = document.querySelector(name), svg = text.ownerSVGElement;"
        "const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;"
        "return scale * parseFloat(getComputedStyle(text).fontSize)})"
    )
    assert min(sizes) > 9  # pixels


def test_what_holds_weights_alone_has_no_column_of_layers(
    browser: Browser, tmp_path: Path, reports: Reports
) -> None:
    path = tmp_path / "report.html"
    path.write_text(html.render(reports.weights_alone), "utf-8")
    browser.open(path)
    heads = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())"
    assert "variables" not in browser.run(heads, "#n0 thead th")
    assert "variables" in browser.run(heads, "#weights-table thead th")
    assert len(browser.run(heads, "#n0 tbody tr:first-child > *")) == 7
    assert browser.run(heads, "[aria-label='Table of artifacts'] tbody tr:last-child td") == [
        "tf_variables", "–", "–", "–", "–", "31 of 31", "0.0",
    ]  # fmt: skip
    click(browser, "#n0 thead th:nth-child(7) button")  # the last column sorts by its own values
    up = [float(text) for (text,) in rows(browser, "n0", 6)]
    assert up == sorted(up)


def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path, hostile: Report) -> None:
    path = tmp_path / "report.html"
    path.write_text(html.render(hostile), "utf-8")
    for width in (1280, 390):
        browser.open(path, width=width)
        assert browser.problems() == []
        assert browser.requests() == [path.as_uri()]
        assert browser.run("return document.title").startswith("✗ </script>")
        assert browser.run("return document.scripts.length + document.images.length") == 1
        assert browser.run("return document.documentElement.scrollWidth") <= width


def test_eight_inputs_open_quickly(browser: Browser, tmp_path: Path, reports: Reports) -> None:
    path = tmp_path / "report.html"
    path.write_text(html.render(reports.large), "utf-8")
    browser.open(path)
    done = browser.run("return performance.getEntriesByType('navigation')[0].domComplete")
    assert 0 < done < 5000  # milliseconds; a third of a second on an idle machine
    assert len(rows(browser, "d0", 0)) == 216


def test_pictures(browser: Browser, tmp_path: Path, reports: Reports) -> None:
    keep = "NETVLAD_PICTURES" in os.environ
    folder = Path(os.environ.get("NETVLAD_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("passing", "bad_weight"):
        path = tmp_path / f"{name}.html"
        path.write_text(html.render(reports.named(name)), "utf-8")
        for kind, width, dark in (
            ("light", 1280, False),
            ("dark", 1280, True),
            ("phone", 390, False),
        ):
            browser.open(path, width=width, dark=dark)
            picture = folder / f"{name}-{kind}.png"
            browser.picture(picture, whole=keep)
            assert picture.stat().st_size > 20_000
