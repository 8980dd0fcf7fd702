"""What the command line shows: progress while it works, and what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from converters.manifest import FILENAME

__all__ = ["artifacts", "inspection", "manifest", "progress", "sources"]


class _Lines:
    """Progress where nobody watches: a line a step, a line each tenth of a transfer."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._tenth: dict[str, int] = {}

    def step(self, message: str) -> None:
        if not self._quiet:
            print(message, file=sys.stderr, flush=True)

    def transfer(self, name: str, done: int, total: int | None) -> None:
        if not done and total is None:  # nothing to count
            self.step(name)
            return
        tenth = 10 * done // total if total else done >> 24
        if self._tenth.get(name) != tenth:
            self._tenth[name] = tenth
            of = f" of {total / 1e6:.1f}" if total else ""
            self.step(f"{name}: {done / 1e6:.1f}{of} MB")


class _Bars:
    """Progress on a terminal: a spinner for the steps, a bar with bytes for a transfer."""

    def __init__(self, steps: Progress, transfers: Progress) -> None:
        self._steps = steps
        self._transfers = transfers
        self._tasks: dict[str, Any] = {}

    def step(self, message: str) -> None:
        self.finish()
        self._steps.add_task(escape(message), total=None)

    def finish(self) -> None:
        """Tick off what was under way."""
        for task in self._steps.task_ids:
            self._steps.update(task, total=1, completed=1)

    def transfer(self, name: str, done: int, total: int | None) -> None:
        if not done and total is None:
            self.step(name)
            return
        if name not in self._tasks:
            self._tasks[name] = self._transfers.add_task(escape(name), total=total)
        self._transfers.update(self._tasks[name], completed=done, total=total)


def _console() -> Console:
    """Standard output; where nobody watches, lines are as long as they need to be."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


@contextmanager
def progress(*, quiet: bool) -> Iterator[_Lines | _Bars]:
    """An object with `step(message)` and `transfer(name, done, total)` in bytes."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _Lines(quiet)
        return
    name = TextColumn("{task.description}")
    transfers = Progress(name, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    steps = Progress(SpinnerColumn(finished_text="✓"), name, TimeElapsedColumn())
    with Live(Group(transfers, steps), console=console):
        bars = _Bars(steps, transfers)
        yield bars
        bars.finish()


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of artifacts."""
    found: dict[str, Any] = json.loads((folder / FILENAME).read_text(encoding="utf-8"))
    return found


def artifacts(folder: Path, notice: str) -> None:
    """The files that were made; the notice, if there is one, is the last line."""
    table = Table("file", "size", "sha256", box=None)
    for name, facts in manifest(folder)["files"].items():
        if not name.startswith("saved_model/") or name.endswith("saved_model.pb"):
            table.add_row(name, _size(facts["size"]), facts["sha256"][:16] + "…")
    console = _console()
    console.print(f"{folder}/", highlight=False)
    console.print(table)
    if notice:
        console.print(notice, highlight=False, soft_wrap=True, markup=False)


def inspection(found: dict[str, Any]) -> None:
    """A file's layers and tensors, and the net that it is."""
    console = _console()
    table = Table("layer", "kind", "tensors", "options", box=None)
    for layer in found["layers"]:
        shapes = [_shape(found["tensors"][name]["shape"]) for name in layer["tensors"]]
        options = ", ".join(f"{key} {_short(value)}" for key, value in layer["options"].items())
        table.add_row(escape(layer["name"]), layer["kind"], ", ".join(shapes), escape(options))
    if not found["layers"]:
        table = Table("tensor", "shape", "type", box=None)
        for name, tensor in found["tensors"].items():
            table.add_row(escape(name), _shape(tensor["shape"]), tensor["dtype"])
    console.print(table)
    lines = [f"{found['format']}, {found['parameters']:,} numbers, mean {_short(found['mean'])}"]
    lines += [f"session {found['session']}"] if found["session"] else []
    lines += [f"note: {note}" for note in found["notes"]]
    spec = found["spec"]
    lines.append(
        f"fits {spec['name'] or 'a NetVLAD'}: {spec['pooling']}, K {spec['clusters']}, "
        f"descriptor {spec['dimension']}, images from {spec['minimum_size']} px"
        if spec
        else f"no NetVLAD: {found['why_no_spec']}"
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def sources(found: list[dict[str, Any]]) -> None:
    """The named sources as a table."""
    table = Table("name", "what it is", "size", "cached", box=None)
    for row in found:
        size = _size(row["size"]) if row["size"] else "?"
        table.add_row(row["name"], row["summary"], size, "yes" if row["cached"] else "")
    _console().print(table)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} B"


def _shape(shape: list[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + " ".join(_short(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
