"""Whether an HDF5 file keeps to itself: no links, storage or datasets that lead out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from converters.errors import ReadError

__all__ = ["check"]

#: Deflate, HDF5's strongest usual filter, makes nothing smaller than by this factor.
_DENSEST = 1032
_SMALL = 1 << 20


def check(path: Path, file: Any) -> None:
    """Walk an open file. Raises `ReadError` with the name of what leads out of it, or of a
    dataset that declares more than it can hold.
    """
    seen = set()
    waiting = [file]
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            full = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ReadError(path, f"{full} is a link{_target(link)}; refused")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _check_dataset(path, full, item)


def _target(link: Any) -> str:
    file = getattr(link, "filename", "")
    return f" to {file}" if file else ""


def _check_dataset(path: Path, name: str, dataset: Any) -> None:
    if dataset.external:
        files = ", ".join(str(file) for file, _, _ in dataset.external)
        raise ReadError(path, f"{name} keeps its values in another file ({files}); refused")
    if dataset.is_virtual:
        raise ReadError(path, f"{name} is put together from other files; refused")
    declared, stored = dataset.nbytes, dataset.id.get_storage_size()
    if declared > _SMALL + _DENSEST * stored:
        raise ReadError(path, f"{name} declares {declared} bytes and holds {stored}; refused")
