"""Memory of a process and all of its descendants, sampled while it runs (Linux).

The proportional set size counts a page that n processes share as 1/n of it in
each, so the sum over a tree is what the tree holds. It splits into memory of
the processes' own, which only they can give back (`Pss_Anon`, `Pss_Shmem`),
and pages of mapped files, libraries included (`Pss_File`), which are the
system's page cache and can be dropped at any time. Source: Linux,
Documentation/filesystems/proc.rst, `smaps_rollup`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = ["Memory", "Sample", "sampled"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a tree holds at one moment, in bytes.

    time  of `time.monotonic`.
    own   memory without the page cache of mapped files.
    file  mapped files' pages, each in proportion to those who map it.
    """

    time: float
    own: int
    file: int

    @property
    def total(self) -> int:
        """The proportional set size."""
        return self.own + self.file


@dataclass(frozen=True, slots=True)
class Memory:
    """The samples of one run, in order of time."""

    samples: list[Sample] = field(default_factory=list)

    def peak(self, start: float = 0.0, end: float = float("inf")) -> tuple[int, int]:
        """Largest own memory and largest total between two moments, in bytes.

        The two need not have come at the same time. (0, 0) where nothing was sampled.
        """
        within = [sample for sample in self.samples if start <= sample.time < end]
        own = max((sample.own for sample in within), default=0)
        return own, max((sample.total for sample in within), default=0)


@contextmanager
def sampled(pid: int, interval: float = 0.05) -> Iterator[Memory]:
    """Sample the tree under `pid` every `interval` seconds while the block runs."""
    memory = Memory()
    done = threading.Event()

    def sample() -> None:
        while not done.is_set():
            started = time.monotonic()
            own, file = _tree(pid)
            memory.samples.append(Sample(started, own, file))
            done.wait(max(0.0, interval - (time.monotonic() - started)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()


def _tree(pid: int) -> tuple[int, int]:
    """Own and file bytes of a process and its descendants; one that has ended counts nothing."""
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    parts = [_rollup(member.pid) for member in members]
    return sum(own for own, _ in parts), sum(file for _, file in parts)


def _rollup(pid: int) -> tuple[int, int]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    fields = dict(line.split(":") for line in text.splitlines()[1:])
    sizes = {key: 1024 * int(value.split()[0]) for key, value in fields.items()}
    return sizes["Pss_Anon"] + sizes["Pss_Shmem"], sizes["Pss_File"]
