"""`report.json`, for machines; its form is published in `schema.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from verify.report.words import verdict
from verify.result import Report

__all__ = ["SCHEMA_VERSION", "render"]

#: Rises when a reader of the old form could be misled by the new one.
SCHEMA_VERSION = 1


def render(report: Report) -> str:
    """The verdict first, then everything. NaN and the infinities are strings."""
    contents = {
        "schema": SCHEMA_VERSION,
        "verdict": verdict(report),
        **{each.name: getattr(report, each.name) for each in fields(report)},
    }
    return json.dumps(_plain(contents), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """What JSON can hold: dataclasses as objects, with `passed` where they have it."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return _real(float(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if is_dataclass(value):
        names = dict.fromkeys(each.name for each in fields(value))
        if hasattr(value, "passed"):
            names["passed"] = None
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [_plain(each) for each in value]
    return str(value)


def _real(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
