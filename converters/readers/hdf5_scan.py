"""What an HDF5 file says of itself, looked at before any of its data is read.

An HDF5 file may point into other files: by external links, by external storage and by
virtual datasets. It may declare more than it stores, hold itself, and name filters whose
code is loaded from elsewhere. None of that is in a file that MATLAB or Keras wrote.
"""

from __future__ import annotations

from typing import Any

import h5py

from converters.errors import ReadError

__all__ = ["believable", "inside", "member", "walk"]

# zlib's best is 1032 to 1; a dataset that declares more than that is not stored. Weights
# shrink by a tenth or so: what swells a hundred times, past what is small, is a bomb.
_DEFLATE_LIMIT, _SWELL = 1032, 100
_SMALL, _LARGE = 1 << 20, 64 << 20
_FILTERS = {h5py.h5z.FILTER_DEFLATE: "gzip", h5py.h5z.FILTER_SHUFFLE: "shuffle"}
_DEPTH, _VALUES = 64, 2_000_000


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """What `name` is in a group; refuses everything that could lie outside the file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise _refused(group, name, "is a link")
    return inside(group[name])


def inside(item: Any) -> h5py.Group | h5py.Dataset:
    """The object itself, if its data is in its own file, and in a way that is known."""
    if isinstance(item, h5py.Datatype):
        raise _refused(item, "", "is a type without a value")
    if isinstance(item, h5py.Dataset):
        creation = item.id.get_create_plist()
        if creation.get_external_count():
            raise _refused(item, "", "keeps its data in another file")
        if creation.get_layout() == h5py.h5d.VIRTUAL:
            raise _refused(item, "", "is a virtual dataset")
        for index in range(creation.get_nfilters()):
            code, *_ = creation.get_filter(index)
            if code not in _FILTERS:
                raise _refused(item, "", f"is stored through filter {code}, not gzip or shuffle")
    return item


def believable(item: h5py.Dataset) -> None:
    """Refuse a dataset that declares more than its stored bytes can hold."""
    stored, declared = item.id.get_storage_size(), item.nbytes
    if declared <= max(_SMALL, stored):
        return
    if not item.id.get_create_plist().get_nfilters():
        limit = stored
    else:
        limit = min(_DEFLATE_LIMIT * stored, max(_LARGE, _SWELL * stored))
    if declared > limit:
        raise ReadError(
            item.file.filename,
            f"{item.name} declares {declared} bytes, but {stored} are stored",
            advice="The file is damaged: fetch it again.",
        )


def walk(root: h5py.Group | h5py.Dataset) -> None:
    """Refuse what is wrong anywhere below an object, references followed; data is not read."""
    _Walk().count(root, ())


class _Walk:
    """Counts the values that each object holds, however often it is referred to."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def count(self, item: Any, trail: tuple[int, ...]) -> int:
        item = inside(item)
        address = h5py.h5o.get_info(item.id).addr
        if address in self._counts:
            return self._counts[address]
        if address in trail:
            raise _refused(item, "", "holds itself")
        if len(trail) > _DEPTH:
            raise _refused(item, "", f"lies more than {_DEPTH} deep")
        trail = (*trail, address)
        count = 1
        if isinstance(item, h5py.Group):
            count += sum(self.count(member(item, name), trail) for name in item)
        else:
            believable(item)
            if h5py.check_ref_dtype(item.dtype) is h5py.Reference:
                references = (each for each in item[()].ravel() if each)
                count += sum(self.count(item.file[each], trail) for each in references)
        if count > _VALUES:
            raise _refused(item, "", f"holds more than {_VALUES} values")
        self._counts[address] = count
        return count


def _refused(item: Any, name: str, reason: str) -> ReadError:
    place = "/".join(part for part in ((item.name or "").rstrip("/"), name) if part)
    return ReadError(
        item.file.filename,
        f"{place or 'an object'} {reason}, which MATLAB and Keras never write",
        advice="The file is damaged, or was made to reach outside itself: do not trust it.",
    )
