"""`netvlad-verify manifest`: whether a folder holds what its manifest says, and nothing else."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from converters.errors import EnvironmentFailure, ReadError

__all__ = ["MANIFEST", "Entry", "compare", "fault", "render", "run"]

MANIFEST = "manifest.json"

#: What may lie in the folder without standing in its manifest: what `check` writes there.
_REPORT = "report"
_ADVICE = "give a folder that convert made"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the manifest, or one that is there and has no place in it.

    size    in bytes, as the manifest says; of an extra file, as it is there.
    sha256  as the manifest says; "" of an extra file.
    fault   what is wrong with it, "" if nothing is.
    """

    name: str
    size: int
    sha256: str
    fault: str = ""


def compare(folder: Path) -> tuple[Entry, ...]:
    """Every file of the manifest in its order, then what is extra.

    Extra is whatever is neither in the manifest nor the manifest itself nor in
    `report/`; a link is extra too, wherever it leads. Raises `ReadError` for a
    folder without a readable manifest, `EnvironmentFailure` where a file of it
    may not be read.
    """
    stated = _stated(folder / MANIFEST)
    try:
        found = [
            Entry(name, facts["size"], facts["sha256"], _fault_in(folder, name, facts))
            for name, facts in stated.items()
        ]
        extra = [
            Entry(name, (folder / name).lstat().st_size, "", "has no place in the manifest")
            for name in _present(folder)
            if name not in stated
        ]
    except OSError as error:
        where = error.filename or folder
        raise EnvironmentFailure(f"{where}: {error.strerror or error}") from error
    return (*found, *extra)


def fault(path: Path, facts: Mapping[str, Any]) -> str:
    """What is wrong with a file whose `size` and `sha256` are known; "" if nothing is."""
    if not path.is_file():
        return "is not there"
    if path.stat().st_size != facts["size"]:
        return f"has {path.stat().st_size:,} bytes, the manifest says {facts['size']:,}"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if digest == facts["sha256"] else f"has sha256 {digest}, not {facts['sha256']}"


def run(options: argparse.Namespace) -> bool:
    """The command: print the table, or JSON, and say whether all is good."""
    entries = compare(options.folder)
    passed = not any(entry.fault for entry in entries)
    if options.json:
        files = [asdict(entry) for entry in entries]
        print(json.dumps({"folder": str(options.folder), "passed": passed, "files": files}))
    else:
        print(render(options.folder, entries))
    return passed


def render(folder: Path, entries: tuple[Entry, ...]) -> str:
    """The table, and the verdict in its last line."""
    names = [_printable(entry.name) for entry in entries]
    width = max(map(len, names))
    lines = [
        f"{name:{width}}  {entry.size:>15,}  {entry.sha256[:16]:16}  {entry.fault or 'good'}"
        for name, entry in zip(names, entries, strict=True)
    ]
    bad = sum(bool(entry.fault) for entry in entries)
    verdict = f"{bad} of {len(entries)} files are not as they should be" if bad else (
        f"{len(entries)} files, all of them as the manifest says, and nothing else"
    )  # fmt: skip
    return "\n".join([*lines, f"{folder}: {verdict}"])


def _stated(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> size and sha256 of every file of the manifest."""
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
        for name, facts in files.items():
            if not (isinstance(facts["size"], int) and isinstance(facts["sha256"], str)):
                raise ValueError(f"size and sha256 of {name} are {facts}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"not a conversion's manifest ({error})"
        raise ReadError(path, reason, advice=_ADVICE) from error
    if not files:
        raise ReadError(path, "a conversion's manifest that names no file", advice=_ADVICE)
    return dict(files)


def _fault_in(folder: Path, name: str, facts: Mapping[str, Any]) -> str:
    """`fault`, of a file that lies in the folder; nothing else is opened for its name's sake."""
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or not set(parts).isdisjoint(("..", "/")):
        return "leads out of the folder"
    places = [folder.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    if any(place.is_symlink() for place in places):
        return "is a link"
    return fault(places[-1], facts)


def _present(folder: Path) -> list[str]:
    """Everything in the folder but folders, the manifest and the report."""
    report = folder / _REPORT
    is_report = report.is_dir() and not report.is_symlink()
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or not path.is_dir())
        and path != folder / MANIFEST
        and not (is_report and path.is_relative_to(report))
    ]


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
