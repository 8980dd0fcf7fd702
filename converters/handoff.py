"""Weights on the disk between the process that reads a source and those that write artifacts.

Each array is one `.npy` file that the writers map, so that the source can be
released and no weight is held twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converters.checkpoint import Array
from netvlad_keras.spec import NetVLADSpec

__all__ = ["load", "save"]

_INDEX = "index.json"


def save(folder: Path, spec: NetVLADSpec, arrays: Mapping[str, Array]) -> None:
    """Write `arrays`, as float32, and the spec into an empty folder."""
    folder.mkdir()
    files = {}
    for number, (name, array) in enumerate(arrays.items()):
        files[name] = f"{number}.npy"
        np.save(folder / files[name], np.asarray(array, np.float32, order="C"))
    (folder / _INDEX).write_text(json.dumps({"spec": spec.to_dict(), "files": files}))


def load(folder: Path) -> tuple[NetVLADSpec, dict[str, Array]]:
    """Read back what `save` wrote; the arrays are maps of their files."""
    index = json.loads((folder / _INDEX).read_text())
    arrays = {
        name: np.load(folder / file, mmap_mode="r", allow_pickle=False)
        for name, file in index["files"].items()
    }
    return NetVLADSpec.from_dict(index["spec"]), arrays
