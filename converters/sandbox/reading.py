"""How far files are believed: a setting of the command line's, which holds within a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from converters.plausible import PARAMETERS

__all__ = ["Reading", "believe", "believed", "believing"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a file is believed.

    trusted     it is parsed in this process.
    parameters  how many numbers it may hold.
    seconds     that its parse may take; None: a minute, and more for a large file.
    memory      bytes that its parse may take; None: 2 GiB and 16 times the file, within
                what the machine has.
    """

    trusted: bool = False
    parameters: int = PARAMETERS
    seconds: float | None = None
    memory: int | None = None


_STRANGER = Reading()
_believed: ContextVar[Reading] = ContextVar("believed", default=_STRANGER)


def believed() -> Reading:
    """How far files are believed here."""
    return _believed.get()


def believe(reading: Reading) -> None:
    """Believe files so far from now on: for a process that another one started."""
    _believed.set(reading)


@contextmanager
def believing(reading: Reading) -> Iterator[None]:
    """Believe files so far within the block."""
    token = _believed.set(reading)
    try:
        yield
    finally:
        _believed.reset(token)
