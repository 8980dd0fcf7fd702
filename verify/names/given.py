"""Names that a user gives for somebody else's file: JSON, canonical name -> name there."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from converters.errors import MappingError, ReadError
from verify.names.canonical import Place

__all__ = ["Names", "check", "read"]

Names = Mapping[str, Place]

_ADVICE = (
    'Write {"conv1_1": "trunk/conv1/BiasAdd:0", "vlad:core": {"tensor": "vlad/sub:0", '
    '"axes": "NKD"}, "conv1_1/kernel": "trunk/conv1/kernel"}: the source\'s name, then the '
    "file's; axes where they are not the usual ones, and sign -1 for what is stored negated."
)


def read(path: Path) -> Names:
    """Read a table of names.

    Layers go by their canonical names, weights by theirs (`conv1_1/kernel`), the net's input by
    `image`. Raises `ReadError` for anything else than such a table.
    """
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError(path, f"cannot be read as JSON: {error}", advice=_ADVICE) from error
    if not isinstance(rows, dict) or not rows:
        raise ReadError(path, "is not a table of names", advice=_ADVICE)
    return {name: _place(path, name, row) for name, row in rows.items()}


def check(names: Names, available: Collection[str], path: Path) -> None:
    """Raise `MappingError` with every name that `path`, whose names are `available`, lacks."""
    missing = []
    for name, place in names.items():
        if place.tensor not in available:
            close = [other for other in available if other.endswith(f"/{place.tensor}")][:3]
            close = close or difflib.get_close_matches(place.tensor, available, 3, 0.5)
            hint = f"; it has {', '.join(close)}" if close else ""
            missing.append(f"{name} ({place.tensor} in {path}{hint})")
    if missing:
        raise MappingError(missing, advice="Correct the table of names.")


def _place(path: Path, name: str, row: Any) -> Place:
    fields = {"tensor": row} if isinstance(row, str) else row
    if (
        isinstance(fields, dict)
        and fields.keys() <= {"tensor", "axes", "sign"}
        and isinstance(fields.get("tensor"), str)
        and isinstance(fields.get("axes", ""), str)
        and fields.get("sign", 1) in (1, -1)
    ):
        return Place(**fields)
    raise ReadError(path, f"{name} is {json.dumps(row)}", advice=_ADVICE)
