"""Weights on the disk between the process that reads a source and those that write artifacts.

Each array is one `.npy` file that the writers map, so that the source can be
released and no weight is held twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from converters.checkpoint import Array
from netvlad_keras.net import NetSpec
from netvlad_keras.spec import NetVLADSpec

__all__ = ["Spec", "load", "save"]

Spec = NetVLADSpec | NetSpec
_SPECS: Mapping[str, type[NetVLADSpec] | type[NetSpec]] = {
    "NetVLADSpec": NetVLADSpec,
    "NetSpec": NetSpec,
}
_INDEX = "index.json"
#: Bytes that are copied and written at a time.
_CHUNK = 1 << 22
#: Numbers in a line of the processor's cache.
_LINE = 16


def save(folder: Path, spec: Spec, arrays: Mapping[str, Array]) -> None:
    """Write `arrays`, as float32, and the spec into an empty folder."""
    folder.mkdir()
    files = {}
    for number, (name, array) in enumerate(arrays.items()):
        files[name] = f"{number}.npy"
        with (folder / files[name]).open("wb") as file:
            _write(array, file)
    (folder / _INDEX).write_text(
        json.dumps({"kind": type(spec).__name__, "spec": spec.to_dict(), "files": files})
    )


def load(folder: Path) -> tuple[Spec, dict[str, Array]]:
    """Read back what `save` wrote.

    The arrays are maps of their files, aligned to 64 bytes. They can be
    written to, which changes a page's own copy and never the file.
    """
    index = json.loads((folder / _INDEX).read_text())
    arrays = {
        name: np.load(folder / file, mmap_mode="c", allow_pickle=False)
        for name, file in index["files"].items()
    }
    return _SPECS[index["kind"]].from_dict(index["spec"]), arrays


def _write(array: Array, file: BinaryIO) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for rows in _in_rows(np.atleast_1d(array)):
        file.write(rows.data)


def _in_rows(array: Array) -> Iterator[Array]:
    """The values as float32 in C order, some rows of the first axis at a time.

    MATLAB's arrays have the first axis fastest. They are copied a cache line's
    width of the last axis at a time, so that each line is fetched once; a plain
    copy takes ten times as long.
    """
    count = max(1, _CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), count):
        part = array[start : start + count]
        if part.flags.c_contiguous:
            yield part.astype("<f4", copy=False)
            continue
        rows = np.empty(part.shape, "<f4")
        for first in range(0, part.shape[-1], _LINE):
            rows[..., first : first + _LINE] = part[..., first : first + _LINE]
        yield rows
