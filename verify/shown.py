"""The end of a comparison: the report is signed, printed, written."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from verify import report
from verify.report import terminal
from verify.result import Report

__all__ = ["shown", "signed"]

_LIBRARIES = (
    *("netvlad-keras", "numpy", "scipy", "tensorflow", "tensorflow-cpu"),
    *("keras", "onnx", "onnxruntime"),
)


def signed(found: Report) -> Report:
    """With what ran, and how it was called."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    command = " ".join(["netvlad-verify", *sys.argv[1:]])
    return replace(found, versions=versions, command=command)


def shown(found: Report, place: Path | None) -> bool:
    """Print the tables, write the reports below `place` if it is given, say whether all is good."""
    print(terminal.render(found, Console()))
    if place:
        written = report.write_all(found, place)
        print(f"report: {written['html']}")
    return found.passed
