"""The report for machines and for pull requests: JSON, JUnit XML, Markdown; and as files."""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from markdown_it import MarkdownIt

from converters.errors import ConversionError, EnvironmentFailure
from verify.report import FILES, STYLES, json_report, junit, markdown, render, write_all
from verify.result import Report

if TYPE_CHECKING:
    from tests.verify.report.conftest import Reports

NAMES = ("passing", "bad_weight", "missing_layer", "nan", "pool_relu", "wrong_hash", "empty")
SCHEMA = json.loads(resources.files("verify.report").joinpath("schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def loaded(report: Report) -> dict[str, Any]:
    """The JSON of the first input, read as the strictest reader does, and found to be valid."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    one = replace(report, regimes=report.regimes[:1])  # validating is slow
    contents: dict[str, Any] = json.loads(json_report.render(one), parse_constant=refuse)
    VALIDATOR.validate(contents)
    return contents


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        (
            "bad_weight",
            {
                "passed": False,
                "first_bad_layer": "conv3_2",
                "tensor": "conv3_2/kernel",
                "cause": "a changed weight",
                "sentence": "model.onnx differs from the source: the first bad layer is conv3_2, "
                "where 1 of 589,824 values of conv3_2/kernel differs.",
            },
        ),
        ("pool_relu", {"first_bad_layer": "pool1", "cause": "the relu stands before the pool"}),
        ("missing_layer", {"passed": False, "first_bad_layer": "relu4_1", "tensor": ""}),
        ("nan", {"passed": False, "first_bad_layer": "preL2"}),
        ("wrong_hash", {"passed": False, "first_bad_layer": ""}),
        ("empty", {"passed": False, "first_bad_layer": "", "cause": ""}),
        ("passing", {"passed": True, "first_bad_layer": "", "tensor": "", "cause": ""}),
    ],
)
def test_json_verdict(name: str, verdict: dict[str, Any], reports: Reports) -> None:
    found = loaded(reports.named(name))["verdict"]
    assert {key: found[key] for key in verdict} == verdict


def test_json_holds_everything(reports: Reports) -> None:
    contents = loaded(reports.bad_weight)
    assert list(contents)[:2] == ["schema", "verdict"]
    column = contents["regimes"][0]["columns"][-1]
    layers = {row["layer"]: row for row in column["layers"]}
    assert len(layers) == 36
    assert layers["conv3_2"]["own"]["roundings"] == 812.0
    assert [layers[name]["passed"] for name in ("conv3_1", "conv3_2")] == [True, False]
    assert layers["input"]["inherited"]["snr_db"] == "Infinity"
    assert contents["manifest"]["source"]["sha256"] == "3f" * 32


def test_json_of_what_json_cannot_hold(reports: Reports) -> None:
    odd = {
        "nan": math.nan,
        "deep": [-math.inf, {3: np.float32(0.5)}],
        "path": Path("a"),
        "n": np.int64(7),
    }
    contents = loaded(replace(reports.passing, manifest=odd))
    assert contents["manifest"] == {
        "nan": "NaN",
        "deep": ["-Infinity", {"3": 0.5}],
        "path": "a",
        "n": 7,
    }


def test_the_schema_refuses_what_is_not_a_report(reports: Reports) -> None:
    VALIDATOR.check_schema(SCHEMA)
    good = loaded(reports.passing)
    assert not VALIDATOR.is_valid({key: good[key] for key in good if key != "verdict"})
    assert not VALIDATOR.is_valid({**good, "more": 1})
    assert not VALIDATOR.is_valid({**good, "verdict": {**good["verdict"], "passed": "yes"}})


# What JUnit.xsd of Ant allows, as {element: (attributes it must have, those it may, children in
# order)}: the strictest schema in use. Jenkins's junit-10.xsd allows all of this.
SUITE = {"id", "package", "name", "timestamp", "hostname", "tests", "failures", "errors", "time"}
ALLOWED: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (set(), set(), ["testsuite*"]),
    "testsuite": (SUITE, {"skipped"}, ["properties", "testcase*", "system-out", "system-err"]),
    "properties": (set(), set(), ["property*"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": ({"name", "classname", "time"}, set(), ["skipped?", "error?", "failure?"]),
    "failure": ({"type"}, {"message"}, []),
    "skipped": (set(), {"message"}, []),
    "system-out": (set(), set(), []),
    "system-err": (set(), set(), []),
}


def valid(element: ElementTree.Element) -> None:
    must, may, children = ALLOWED[element.tag]
    assert must <= set(element.attrib) <= must | may, element.attrib
    tags = "".join(f"<{child.tag}>" for child in element)
    pattern = "".join(
        f"(?:<{name.rstrip('*?')}>){name[len(name.rstrip('*?')) :]}" for name in children
    )
    assert re.fullmatch(pattern, tags), f"{element.tag}: {tags}"
    for child in element:
        valid(child)


def suites(report: Report) -> dict[tuple[str, str], ElementTree.Element]:
    """The XML by (input, artifact), found to be valid and to count right."""
    root = ElementTree.fromstring(junit.render(report, when=WHEN).encode())
    valid(root)
    for place, suite in enumerate(root):
        assert suite.get("id") == str(place)
        assert suite.get("timestamp") == "2026-01-02T03:04:05"
        assert re.fullmatch(r"\d+\.\d{3}", suite.get("time", ""))
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped"))
    return {(suite.get("package", ""), suite.get("name", "")): suite for suite in root}


def failures(suite: ElementTree.Element) -> dict[str, str]:
    return {
        case.get("name", ""): failure.get("message", "")
        for case in suite.iter("testcase")
        for failure in case.iter("failure")
    }


def test_junit_has_a_case_for_every_layer_of_every_artifact_on_every_input(
    reports: Reports,
) -> None:
    found = suites(reports.passing)
    assert len(found) == 6 * 3 + 6  # and the weights
    suite = found["black", "model.onnx"]
    names = [case.get("name") for case in suite.iter("testcase")]
    assert names == [*reports.passing.layers, "verdict"]
    assert len(found["weights", "model.onnx"].findall("testcase")) == 31
    assert not any(failures(suite) for suite in found.values())


@pytest.mark.parametrize(
    ("name", "suite", "case", "message"),
    [
        (
            "bad_weight",
            ("black", "model.onnx"),
            "conv3_2",
            "made here: own error 812 roundings (limit 4); "
            "the worst element [0, 12, 7, 31] is 24.84 instead of 24.8",
        ),
        (
            "bad_weight",
            ("weights", "model.onnx"),
            "conv3_2/kernel",
            "1 of 589,824 values differs, the most at [1, 2, 30, 7]: 0.0327 instead of 0.0312",
        ),
        (
            "missing_layer",
            ("odd size", "saved_model"),
            "relu4_1",
            "missing: no output goes by this name",
        ),
        ("missing_layer", ("black", "saved_model"), "verdict", "relu4_1 is missing."),
        (
            "nan",
            ("photograph", "model.h5"),
            "finalL2",
            "7 of 4096 values are NaN or infinite, the first at (0, 3)",
        ),
        (
            "wrong_hash",
            ("checksums", "manifest.json"),
            "model.onnx",
            "sha256 is 9c1b…, the manifest says 4f02…",
        ),
        ("empty", ("verify", "report"), "verdict", "Nothing was compared."),
    ],
)
def test_junit_says_in_words_what_failed(
    name: str, suite: tuple[str, str], case: str, message: str, reports: Reports
) -> None:
    assert failures(suites(reports.named(name))[suite])[case] == message


def test_junit_skips_what_an_artifact_does_not_have(reports: Reports) -> None:
    """Variables without a graph have weights and no layers; that is not hidden."""
    regime = reports.passing.regimes[0]
    column = replace(regime.columns[0], artifact="variables", layers=())
    found = suites(replace(reports.passing, regimes=(replace(regime, columns=(column,)),)))
    assert found["photograph", "variables"].get("skipped") == "36"
    assert not failures(found["photograph", "variables"])


def test_an_input_that_is_made_for_one_layer_alone(reports: Reports) -> None:
    """No layer is then said to be missing, and a bad one is bad on all inputs that it was on."""
    first = reports.bad_weight.regimes[0]
    short = tuple(
        replace(c, layers=tuple(row for row in c.layers if row.layer == "preL2"))
        for c in first.columns
    )
    some = replace(first, name="near-zero vectors", columns=short)
    report = replace(reports.bad_weight, regimes=(first, some))
    suite = suites(report)["near-zero vectors", "model.keras"]
    assert [case.get("name") for case in suite.iter("testcase")] == ["preL2", "verdict"]
    assert "only on" not in markdown.render(report)
    assert render(report, "html").count('<tr id="d1-') == 6


def test_markdown_of_a_failure(reports: Reports) -> None:
    text = markdown.render(reports.bad_weight)
    assert text.startswith("### ❌ netvlad-verify: different\n\nmodel.onnx differs")
    assert "| `model.onnx` | onnx | **first bad layer `conv3_2`** | 13 of 36 | 30 of 31 |" in text
    assert "| `model.onnx` | … | relu3_2 to finalL2: 22 layers only carry the error" in text
    assert len(text) < 4000


def test_markdown_of_a_success_is_short(reports: Reports) -> None:
    text = markdown.render(reports.passing)
    assert text.startswith("### ✅ netvlad-verify: no difference\n")
    assert len(text.splitlines()) < 20


def test_markdown_counts_what_is_beyond_ten_rows(reports: Reports) -> None:
    regime = reports.passing.regimes[0]
    wrong = tuple(replace(row, different=1) for row in regime.columns[0].weights)
    column = replace(regime.columns[0], weights=wrong)
    text = markdown.render(replace(reports.passing, regimes=(replace(regime, columns=(column,)),)))
    assert "\n\nand 21 more rows\n\n" in text


def test_markdown_lets_no_name_become_markup(hostile: Report) -> None:
    text = markdown.render(hostile)
    assert not re.search("[\x00\x1b\u202e]", text)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    flat = [token for block in tokens for token in [block, *(block.children or [])]]
    assert {"table_open", "code_inline", "text"} <= {token.type for token in flat}
    assert not {"html_block", "html_inline", "link_open", "image"} & {t.type for t in flat}
    words = [token.content for token in flat if token.type == "text"]
    assert any("onerror=alert(1)" in each for each in words)
    assert not any(re.search(r"@\w", each) for each in words)
    assert "://" not in re.sub(r"(`+)(?:.(?!\1))*.\1", "", text.replace("\\`", ""))
    heads = [token for token in tokens if token.type in ("th_open", "td_open", "tr_open")]
    rows = "".join(token.type[1] for token in heads).split("r")[1:]
    assert {len(row) for row in rows} == {2, 3, 5}  # no cell too many in any table


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", NAMES)
def test_every_report_in_every_style(name: str, style: str, reports: Reports) -> None:
    report = reports.named(name)
    text = render(report, style)
    assert text.endswith("\n") or style == "html"
    if report.first_failure and style in ("terminal", "json", "markdown", "html"):
        assert report.first_failure.first_bad_layer in text


@pytest.mark.parametrize("style", STYLES)
def test_hostile_names_in_every_style(style: str, hostile: Report) -> None:
    text = render(hostile, style)
    assert not re.search("[\x00\x1b\u202e\udc80]", text)
    if style == "junit":
        suites(hostile)
    if style == "json":
        assert loaded(hostile)["reference"] == hostile.reference


def test_a_style_that_is_none() -> None:
    with pytest.raises(ConversionError, match=r"no report style 'pdf'\n.*terminal, html, json"):
        render(Report("", (), ()), "pdf")


def test_write_all(reports: Reports, tmp_path: Path) -> None:
    written = write_all(reports.bad_weight, tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "report/report.html",
        "report/report.json",
        "report/report.md",
        "report/report.xml",
    ]
    assert set(written) == set(FILES)
    assert json.loads(written["json"].read_text("utf-8"))["verdict"]["first_bad_layer"] == "conv3_2"
    assert written["html"].stat().st_mode & 0o777 == 0o644
    write_all(reports.passing, tmp_path)  # over the old ones
    assert json.loads(written["json"].read_text("utf-8"))["verdict"]["passed"] is True


def test_write_all_of_names_that_are_not_unicode(hostile: Report, tmp_path: Path) -> None:
    for path in write_all(hostile, tmp_path).values():
        assert html.escape("onerror=alert(1)") in path.read_text("utf-8")


def test_nothing_half_written_where_the_disk_refuses(reports: Reports, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (folder / "report.xml").mkdir(parents=True)  # a file cannot take its place
    with pytest.raises(EnvironmentFailure, match=r"report cannot be written: .*\n.*make room"):
        write_all(reports.bad_weight, tmp_path)
    left = {path.name for path in folder.iterdir()}
    assert left == {"report.html", "report.json", "report.xml"}  # no temporary file among them
    assert (folder / "report.html").read_text("utf-8").endswith("</html>")
    assert json.loads((folder / "report.json").read_text("utf-8"))["schema"] == 1


def test_no_report_where_there_can_be_no_folder(reports: Reports, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file")
    with pytest.raises(EnvironmentFailure, match="name a folder"):
        write_all(reports.passing, tmp_path)
    assert (tmp_path / "report").read_text("utf-8") == "a file"
