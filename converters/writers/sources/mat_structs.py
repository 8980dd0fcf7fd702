"""MATLAB's values as scipy's `savemat` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.checkpoint import Array

__all__ = ["NO_CELLS", "Fields", "cells", "plain", "structs"]

Fields = dict[str, Any]

#: `{}`
NO_CELLS: Array = np.empty((0, 0), dtype=object)


def plain(value: Any) -> Any:
    """A setting: a text, or numbers, which MATLAB has in double precision."""
    return value if isinstance(value, str) else np.atleast_2d(np.asarray(value, np.float64))


def cells(items: Sequence[Any]) -> Array:
    """A 1×N cell array; of none `{}`."""
    found = np.empty((1, len(items)) if items else (0, 0), dtype=object)
    for i, item in enumerate(items):
        found[0, i] = item
    return found


def structs(items: Sequence[Fields]) -> Array:
    """A 1×N struct array of structs with the same fields."""
    names = list(items[0]) if items else ["name"]
    found = np.empty((1, len(items)), dtype=[(name, object) for name in names])
    for i, item in enumerate(items):
        for name in names:
            found[name][0, i] = item[name]
    return found
