"""A MATLAB file's variables as they are: arrays, no net."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np

from converters.checkpoint import Array, Checkpoint, Origin
from converters.errors import ReadError

__all__ = ["read"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
#: Of a MAT-file 7.3, which is HDF5 behind a header of this many bytes at most.
_HEADER = 512


def read(path: Path) -> Checkpoint:
    """Every variable of a version 5 or 7.3 file under its name, and no layers.

    Raises `ReadError` for a variable that is no array of numbers, and the containers' errors.
    """
    with path.open("rb") as file:
        container = "mat_v73" if _HDF5 in file.read(_HEADER + len(_HDF5)) else "mat_v5"
    module = import_module(f"converters.readers.{container}")
    kinds = module.variables(path)
    found = module.load(path, kinds)
    arrays: dict[str, Array] = {n: v for n, v in found.items() if isinstance(v, np.ndarray)}
    if others := [f"{name} ({kinds[name]})" for name in found if name not in arrays]:
        advice = "Save plain arrays of numbers, one for each layer, under the layers' names."
        raise ReadError(path, f"holds {', '.join(others)}", advice=advice)
    return Checkpoint(arrays, (), {}, Origin(path, "mat", (path,)))
