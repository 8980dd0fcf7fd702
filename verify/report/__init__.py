"""A `Report` as people and machines read it: terminal, HTML, JSON, JUnit XML, Markdown.

Every module here has `render(report, ...) -> str` and computes nothing that `verify.result`
does not say already; `repro` writes a failing layer as a folder that others can run.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from converters.errors import ConversionError, EnvironmentFailure
from verify.result import Report

__all__ = ["FILES", "STYLES", "render", "write_all"]

#: Style -> the module that renders it.
STYLES: Mapping[str, str] = {
    "terminal": "verify.report.terminal",
    "html": "verify.report.html",
    "json": "verify.report.json_report",
    "junit": "verify.report.junit",
    "markdown": "verify.report.markdown",
}

#: Style -> its file in the folder `report`.
FILES: Mapping[str, str] = {
    "html": "report.html",
    "json": "report.json",
    "junit": "report.xml",
    "markdown": "report.md",
}


def render(report: Report, style: str) -> str:
    """The report in one of `STYLES`. Raises `ConversionError` for any other."""
    if style not in STYLES:
        raise ConversionError(
            f"there is no report style {style!r}", advice=f"take one of {', '.join(STYLES)}"
        )
    text: str = importlib.import_module(STYLES[style]).render(report)
    return text


def write_all(report: Report, folder: Path) -> dict[str, Path]:
    """Write `FILES` into `folder`/report and return them, style -> path.

    All are rendered before any is written, and each takes its place in one step: a reader
    finds the old file or the new one, whole. Raises `EnvironmentFailure` where the disk refuses.
    """
    texts = {style: render(report, style) for style in FILES}
    target = folder / "report"
    waiting: dict[Path, Path] = {}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for style, text in texts.items():
            waiting[_beside(target / FILES[style], text)] = target / FILES[style]
        for temporary, path in waiting.items():
            temporary.replace(path)
    except OSError as error:
        raise EnvironmentFailure(
            f"{target}: the report cannot be written: {error.strerror or error}",
            advice="make room, or name a folder that may be written to",
        ) from error
    finally:
        for temporary in waiting:
            temporary.unlink(missing_ok=True)
    return {style: target / name for style, name in FILES.items()}


def _beside(path: Path, text: str) -> Path:
    """`text` on the disk, under a temporary name next to `path`."""
    # A file name that is not UTF-8 reaches us with lone surrogates: shown as \udcNN.
    content = text.encode("utf-8", "backslashreplace")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
