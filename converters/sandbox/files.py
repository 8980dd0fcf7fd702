"""Which files belong to a path: what its parser may open."""

from __future__ import annotations

import os
import re
from pathlib import Path

from converters.errors import ReadError

__all__ = ["beside"]

_ALONE = frozenset({".mat", ".h5", ".keras", ".safetensors"})
_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def beside(path: Path) -> tuple[list[str], list[str]]:
    """Files that may be read, and folders that may be listed.

    A file with a known ending is alone; any other path is a TensorFlow checkpoint's: its files
    have one beginning, and lie in a folder with others. Raises `ReadError` for a path that
    cannot be a file's name.
    """
    try:
        if path.suffix.lower() in _ALONE:
            return ([str(path)] if path.is_file() else []), []
        folder = path if path.is_dir() else path.parent
        stem = "" if path.is_dir() else _PART.sub("", path.name)
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
    except (OSError, ValueError) as error:
        raise ReadError(path, f"cannot be opened: {error}") from error
    found = [
        str(folder / name)
        for name in names
        if name == "checkpoint"
        or name == path.name
        or (name.startswith(stem) and _PART.search(name))
    ]
    return [name for name in found if os.path.isfile(name)], [str(folder)]
