"""What the witness said of a net: the report that `nox -s verify` left beside it, read as data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Figures", "State", "Verdict", "verdict"]

_REPORT = "report/report.json"
_SCHEMA = 1

#: `unknown`: nothing can be said, and `sentence` says why.
State = str
PASSED, FAILED, UNKNOWN = "passed", "failed", "unknown"


@dataclass(frozen=True, slots=True)
class Figures:
    """One artifact's descriptor against the float64 reference, the worst of all inputs.

    distance   1 - cosine.
    max_abs    the largest difference of a value.
    roundings  RMS of the difference in units of the layer's own rounding; `limit` of it.
    """

    distance: float
    max_abs: float
    roundings: float
    limit: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`figures` by the artifact's path in the folder that `convert` made.

    inputs  those on which descriptors were compared, in words.
    """

    state: State
    sentence: str
    inputs: tuple[str, ...] = ()
    figures: Mapping[str, Figures] = field(default_factory=dict)


def verdict(folder: Path, manifest: Mapping[str, Any]) -> Verdict:
    """What `folder`'s report says of the files in `manifest`; `unknown` unless it is of these."""
    path = folder / _REPORT
    if not path.is_file():
        return Verdict(UNKNOWN, "There is no report: nox -s verify has not been run.")
    try:
        report = json.loads(path.read_text("utf-8"))
        if report["schema"] != _SCHEMA:
            return Verdict(UNKNOWN, f"The report has form {report['schema']}, not {_SCHEMA}.")
        if report["manifest"].get("files") != manifest["files"]:
            return Verdict(UNKNOWN, "The report is of other files: they were converted since.")
        (output,) = manifest["outputs"]
        layer = output["layer"]
        return Verdict(
            state=PASSED if report["verdict"]["passed"] is True else FAILED,
            sentence=str(report["verdict"]["sentence"]),
            inputs=tuple(_input(each) for each in report["regimes"] if any(_rows(each, layer))),
            figures=dict(_figures(report["regimes"], layer)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return Verdict(UNKNOWN, "The report cannot be read.")


def _input(regime: Mapping[str, Any]) -> str:
    return f"{regime['name']} ({'×'.join(str(size) for size in regime['shape'])})"


def _rows(regime: Mapping[str, Any], layer: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each artifact's path, and what its whole run on this input gave at `layer`."""
    for column in regime["columns"]:
        for row in column["layers"]:
            if row["layer"] == layer and row["inherited"]:
                yield column["path"], row["inherited"]


def _figures(regimes: Sequence[Mapping[str, Any]], layer: str) -> Iterator[tuple[str, Figures]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for path, row in (pair for regime in regimes for pair in _rows(regime, layer)):
        found.setdefault(path, []).append(row)
    for path, rows in found.items():
        worst = max(rows, key=lambda row: float(row["roundings"]) / float(row["limit"]))
        yield (
            path,
            Figures(
                distance=max(0.0, *(1 - float(row["cosine"]) for row in rows)),
                max_abs=max(float(row["max_abs"]) for row in rows),
                roundings=float(worst["roundings"]),
                limit=float(worst["limit"]),
            ),
        )
