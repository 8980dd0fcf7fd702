"""MAT-file version 7.3, which is HDF5: walked with h5py, and never out of the file.

Everything in the file is looked at before any of its data is read (`hdf5_scan`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from converters.checkpoint import Array
from converters.errors import ReadError
from converters.readers import memory
from converters.readers.hdf5_scan import believable, inside, member, walk
from converters.readers.mat_value import Foreign, MatObject, Struct, Value

__all__ = ["SUBSYSTEM", "load", "neutral", "variables"]

#: The group in which MATLAB keeps the contents of class objects.
SUBSYSTEM = "#subsystem#"
_OPAQUE = 3  # MATLAB_object_decode of a class object; 1 is a function handle
_INTEGERS = (f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_NUMERIC = frozenset(("double", "single", "logical", *_INTEGERS))


def variables(path: Path) -> dict[str, str]:
    """Name -> MATLAB class of every variable; no data is read."""
    memory.at("pre-scan")
    with h5py.File(path, "r") as file:
        walk(file["/"])
        names = [name for name in file if not name.startswith("#")]
        kinds = {name: _class(member(file, name)) for name in names}
    if kinds and not any(kinds.values()):
        raise ReadError(
            path,
            "is an HDF5 file, but not one that MATLAB wrote: nothing in it has a MATLAB_class",
            advice="Give a .mat file, or the reader of the file's own format.",
        )
    return kinds


def load(path: Path, names: Iterable[str]) -> Struct:
    """The named variables. h5py's errors come out as they are."""
    memory.at("values")
    data = memory.mapped(path)
    with h5py.File(path, "r") as file:
        return {name: neutral(member(file, name), data) for name in names if name in file}


def neutral(item: h5py.Group | h5py.Dataset, data: Array) -> Value:
    """An HDF5 object as MATLAB wrote it, in the neutral form.

    `data` are the file's bytes: arrays that lie in them as they are need not be read.
    """
    kind, decode = _class(item), _flag(item, "MATLAB_object_decode")
    if decode == _OPAQUE and isinstance(item, h5py.Dataset):
        # The subsystem's own cells are of a class, too; they are references.
        is_value = item.dtype.kind != "O"
        return MatObject(kind, item[()].T) if is_value else _dereferenced(item, data)
    if decode:
        return Foreign("a function handle" if decode == 1 else f"an object of class {kind}")
    if "MATLAB_sparse" in item.attrs:
        return Foreign("a sparse matrix")
    if isinstance(item, h5py.Group):
        return _struct(item, data)
    if _flag(item, "MATLAB_empty"):
        return _empty(kind, item[()])
    if kind == "char":
        return "\n".join(row.tobytes().decode("utf-16-le") for row in item[()].astype("<u2").T)
    if kind == "cell":
        return _dereferenced(item, data)
    if kind in _NUMERIC and item.dtype.kind in "biuf":
        return _numeric(item, data)
    return Foreign(f"a value of class {kind or 'unknown'}")


def _struct(group: h5py.Group, data: Array) -> Value:
    items = {name: member(group, name) for name in group}
    # A struct array holds, per field, a dataset of references that has no class.
    if not items or any(_class(item) for item in items.values()):
        return {name: neutral(item, data) for name, item in items.items()}
    columns = {name: _dereferenced(item, data) for name, item in items.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _dereferenced(item: h5py.Dataset, data: Array) -> list[Value]:
    # HDF5's axes are MATLAB's reversed, so its C order is MATLAB's linear order.
    file = item.file
    return [neutral(inside(file[reference]), data) for reference in item[()].ravel()]


def _numeric(item: h5py.Dataset, data: Array) -> Array:
    believable(item)
    values = _lying(item, data)
    if values is None:
        values = memory.empty(item.nbytes).view(item.dtype).reshape(item.shape)
        if item.size:
            item.read_direct(values)
    values = values.T
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _lying(item: h5py.Dataset, data: Array) -> Array | None:
    """A dataset that the file holds in one piece, as a view of the file's bytes."""
    offset = item.id.get_offset()  # of the absolute address; None where it is in pieces
    if offset is None or item.id.get_create_plist().get_nfilters():
        return None
    if offset % item.dtype.itemsize or offset + item.nbytes > data.size:
        return None
    lying: Array = data[offset : offset + item.nbytes].view(item.dtype).reshape(item.shape)
    return lying


def _empty(kind: str, shape: Array) -> Value:
    if kind == "char":
        return ""
    if kind in ("cell", "struct"):
        return []
    return np.empty([int(n) for n in shape] if 0 in shape else [0, 0])


def _class(item: h5py.Group | h5py.Dataset) -> str:
    name = item.attrs.get("MATLAB_class", b"")
    return name.decode("ascii") if isinstance(name, bytes) else str(name)


def _flag(item: h5py.Group | h5py.Dataset, name: str) -> int:
    # Asking whether it is there costs a fraction of h5py's failing to find it.
    return int(item.attrs[name]) if name in item.attrs else 0
