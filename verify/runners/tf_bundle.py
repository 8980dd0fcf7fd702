"""Which TensorFlow checkpoint is meant by a path."""

from __future__ import annotations

import re
from pathlib import Path

from converters.errors import ReadError

__all__ = ["find", "prefix"]

_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def find(path: Path) -> str:
    """The prefix of a checkpoint, given by it, by one of its files, or by a folder of one.

    A prefix may be empty: `folder/.index` has the prefix `folder/`. Raises `ReadError`.
    """
    found = prefix(path)
    if found is None:
        raise ReadError(path, "there is no checkpoint of that name (no .index file)")
    return found


def prefix(path: Path) -> str | None:
    """The same, None where there is no checkpoint. Raises `ReadError` where there are several."""
    stem = _SUFFIX.sub("", str(path))
    if Path(f"{stem}.index").is_file():
        return stem
    indexes = sorted(path.glob("*.index")) if path.is_dir() else []
    stems = [str(index).removesuffix(".index") for index in indexes]
    if len(stems) > 1:
        advice = f"Give one of {', '.join(stems)}."
        raise ReadError(path, "holds several checkpoints", advice=advice)
    if indexes and indexes[0].name == ".index":
        return f"{path}/"
    return stems[0] if stems else None
