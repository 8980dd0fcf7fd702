"""`.npz`: the arrays `paths` and `descriptors`, and `about` as JSON; NumPy alone opens it.

Written a block at a time and without times of day, so that the same descriptors are the same
bytes. The arrays lie uncompressed, so that `mapped` need not read what is not asked for.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from netvlad_keras.results import Rows

__all__ = ["mapped", "names", "read", "write"]

_EPOCH = (1980, 1, 1, 0, 0, 0)


def read(path: Path) -> tuple[list[str], NDArray[np.float32], dict[str, Any]]:
    """Paths, float32 [N, D] and what the file says of them."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"])) if "about" in file.files else {}
        vectors = np.asarray(file["descriptors"], np.float32)
        return [str(name) for name in file["paths"]], vectors, about


def names(path: Path) -> list[str]:
    """The paths alone."""
    with np.load(path, allow_pickle=False) as file:
        return [str(name) for name in file["paths"]]


def mapped(path: Path) -> NDArray[np.float32]:
    """The descriptors of a file that `write` made, read from the disk on demand."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("descriptors.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its descriptors are compressed")
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)  # of the name and of the extra field, in the local header
        file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
        npy.read_magic(file)
        shape, fortran, dtype = npy.read_array_header_1_0(file)
        if fortran or dtype != np.float32:
            raise ValueError(f"its descriptors are {dtype}")
        return np.memmap(path, dtype, "r", file.tell(), shape)


def write(path: Path, rows: Rows, about: Mapping[str, Any]) -> None:
    """Write the file; memory does not grow with the number of rows."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows.paths), rows.dimension)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _array(archive, "paths.npy", np.array(rows.paths, dtype=np.str_))
        _array(archive, "about.npy", np.array(json.dumps(about, sort_keys=True)))
        info = zipfile.ZipInfo("descriptors.npy", _EPOCH)
        with archive.open(info, "w", force_zip64=True) as member:
            npy.write_array_header_1_0(member, header)
            for _, block in rows.blocks():
                member.write(np.ascontiguousarray(block, "<f4").data)


def _array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    npy.write_array(buffer, array, allow_pickle=False)
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), buffer.getvalue())
