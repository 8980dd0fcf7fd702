"""A descriptor that another program wrote: `.npy`, `.npz`, `.mat`, `.pb`, `.txt`, `.csv`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from converters.errors import ReadError
from verify.capture import Array
from verify.runners import captured_file

__all__ = ["read"]

_TEXT = (".txt", ".csv")
#: What an array is called where a file holds several.
_NAMES = ("descriptor", "finalL2", "postL2", "output", "feature", "global_descriptor")


def read(path: Path) -> Array:
    """One descriptor as a vector in float64.

    Of a file of several arrays, that which is called `descriptor` (or as the last layer is).
    Raises `ReadError` for a file that holds none, several, or what is no number.
    """
    if path.suffix.lower() in _TEXT:
        values = _text(path)
    else:
        values = _chosen(path, captured_file.read(path))
    if values.dtype.kind not in "fiu":
        raise ReadError(path, f"holds {values.dtype}, not real numbers")
    vector = np.asarray(values, np.float64).squeeze()
    if vector.ndim != 1 or len(vector) < 2:
        raise ReadError(
            path, f"holds an array of shape {values.shape}", advice="Give one descriptor, a vector."
        )
    if not np.isfinite(vector).all():
        raise ReadError(path, "holds NaN or infinity")
    if not vector.any():
        raise ReadError(path, "holds nothing but zeros")
    return vector


def _text(path: Path) -> Array:
    """Numbers between commas, semicolons, spaces, brackets or line ends."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(path, f"cannot be read as text: {error}") from error
    words = [word for word in re.split(r"[\s,;\[\]()]+", text) if word]
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        raise ReadError(
            path, f"holds more than numbers: {error}", advice="Leave names and headings out."
        ) from error


def _chosen(path: Path, arrays: dict[str, Array]) -> Array:
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    for name in _NAMES:
        if name in arrays:
            return arrays[name]
    held = ", ".join(map(repr, arrays)) or "nothing"
    raise ReadError(path, f"holds {held}", advice="Call the descriptor `descriptor`.")
