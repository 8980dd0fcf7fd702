"""What the command line shows of a training: bars, a line for each epoch, and a warning."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from netvlad_keras.recipe import Row

__all__ = ["Lines", "shown"]

_NOTHING = (
    "warning: no triplet was active: nothing was learnt in this epoch. Is the margin right, do "
    "images and positions belong together, is there anything left to learn?"
)


class Lines:
    """On standard error: a line for each epoch, and what is said between."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def step(self, epoch: int, what: str, done: int, total: int) -> None:
        """Steps are not shown here."""

    def ended(self, row: Row) -> None:
        """Print the epoch's numbers; warn if nothing was learnt."""
        recalls = ", ".join(
            f"{name} {100 * value:.2f} %" for name, value in row.items() if "recall" in name
        )
        if row["epoch"] == 0:
            self.say(f"before training: {recalls}")
            return
        active = row["active"]
        self.say(
            f"epoch {row['epoch']:.0f}: {recalls}, loss {row['loss']:.4f}, "
            f"active triplets {100 * active:.1f} %"
        )
        if active == 0:
            self.say(_NOTHING)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


class _Bars(Lines):
    """The same on a terminal, with a bar below for what goes on now."""

    def __init__(self, bars: Progress, epochs: int) -> None:
        super().__init__()
        self._bars, self._epochs = bars, epochs
        self._now: tuple[int, str] | None = None
        self._task = bars.add_task("", total=None, visible=False)

    def step(self, epoch: int, what: str, done: int, total: int) -> None:
        if (epoch, what) != self._now:
            self._now = epoch, what
            name = f"epoch {epoch}/{self._epochs}, {what}"
            self._bars.reset(self._task, description=name, visible=True)
        self._bars.update(self._task, completed=done, total=total)

    def say(self, text: str) -> None:
        self._bars.console.print(text, highlight=False, markup=False)


@contextmanager
def shown(*, quiet: bool, epochs: int) -> Iterator[Lines]:
    """A watcher of a training of so many epochs."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Lines(quiet=quiet)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars, epochs)
