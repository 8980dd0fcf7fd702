"""Which TensorFlow checkpoint is meant by a path."""

from __future__ import annotations

import re
from pathlib import Path

from converters.errors import ReadError

__all__ = ["find"]

_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def find(path: Path) -> str:
    """The prefix of a checkpoint, given by it, by one of its files, or by a folder of one.

    A prefix may be empty: `folder/.index` has the prefix `folder/`. Raises `ReadError`.
    """
    prefix = _SUFFIX.sub("", str(path))
    if Path(f"{prefix}.index").is_file():
        return prefix
    indexes = sorted(path.glob("*.index")) if path.is_dir() else []
    if (path / ".index").is_file() and len(indexes) <= 1:
        return f"{path}/"
    if len(indexes) == 1:
        return str(indexes[0]).removesuffix(".index")
    if indexes:
        listing = ", ".join(str(index).removesuffix(".index") for index in indexes)
        raise ReadError(path, "holds several checkpoints", advice=f"Give one of {listing}.")
    raise ReadError(path, "there is no checkpoint of that name (no .index file)")
