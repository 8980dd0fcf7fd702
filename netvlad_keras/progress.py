"""What the command line shows while images are described: how many, how fast, which not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from netvlad_keras import describe

__all__ = ["shown"]


class _Speed:
    """Images per second of this run, what earlier runs did aside."""

    def __init__(self, before: int) -> None:
        self._started = time.monotonic()
        self._before = before

    def __call__(self, done: int) -> float:
        return (done - self._before) / max(time.monotonic() - self._started, 1e-9)


class _Lines:
    """Where nobody watches: a line each tenth."""

    def __init__(self, what: str, quiet: bool) -> None:
        self._what = what
        self._quiet = quiet
        self._total = self._done = 0
        self._speed = _Speed(0)

    def start(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._speed = _Speed(done)
        if done:
            self._say(f"{self._what}: {done} of {total} images were described by an earlier run")

    def image(self, path: str, fault: str) -> None:
        if fault:
            self._say(f"{path}: {fault}")
        self._done += 1
        if 10 * self._done // self._total > 10 * (self._done - 1) // self._total:
            speed = f"{self._speed(self._done):.2f} images/s"
            self._say(f"{self._what}: {self._done} of {self._total}, {speed}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)


class _Bar:
    """On a terminal: a bar with images per second, faults above it."""

    def __init__(self, what: str, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task(escape(what), total=None, speed="")
        self._done = 0
        self._speed = _Speed(0)

    def start(self, total: int, done: int) -> None:
        self._done = done
        self._speed = _Speed(done)
        self._bar.update(self._task, total=total, completed=done)

    def image(self, path: str, fault: str) -> None:
        if fault:
            self._bar.console.print(f"{escape(path)}: {escape(fault)}", highlight=False)
        self._done += 1
        speed = f"{self._speed(self._done):.2f} images/s"
        self._bar.update(self._task, completed=self._done, speed=speed)


@contextmanager
def shown(what: str, *, quiet: bool) -> Iterator[describe.Progress]:
    """Progress of describing `what`, on standard error."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _Lines(what, quiet)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield _Bar(what, bar)
