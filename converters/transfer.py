"""One transfer over HTTP that can be broken off and continued."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from converters.catalogue import Progress, Remote
from converters.errors import EnvironmentFailure

__all__ = ["RefusedError", "Transfer"]

_BLOCK = 1 << 20
_TIMEOUT = (10, 60)  # seconds to connect, and between two blocks


class RefusedError(Exception):
    """A server sent something that is not the file."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What has arrived: the file `<name>.part` and, beside it, where it came from."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    ...
