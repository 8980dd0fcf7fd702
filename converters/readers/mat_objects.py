"""Class objects of .mat files, decoded by mat-io out of the file's subsystem.

mat-io is asked for the objects alone: reading the whole file with it takes up
to three times as long as scipy does. Where it cannot parse a subsystem it only
warns; here that is an error. Imported only where a net holds class objects.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
from matio.utils.matclass import MatlabOpaque
from matio.utils.matheaders import read_mat_header
from matio.v5 import matreader5
from matio.v7 import matreader7

from converters.errors import ReadError
from converters.readers import mat_v5, memory
from converters.readers.mat_io_value import neutral
from converters.readers.mat_value import MatObject, Struct

__all__ = ["decoder"]

_HEADER = 128


def decoder(path: Path) -> Callable[[MatObject], Struct]:
    """A function from an object to its properties, class defaults filled in.

    A class with `saveobj` stores one pseudo-property `any`, the struct that
    `saveobj` returned; its fields win over the defaults. The function raises
    ValueError with the reason where an object cannot be decoded.
    """
    subsystem, reason = _subsystem(path)

    def decode(item: MatObject) -> Struct:
        content = item.content
        if content is None:
            if subsystem is None:
                raise ValueError(reason)
            content = _content(subsystem, item)
        properties = {name: neutral(value) for name, value in content.items()}
        saved = properties.pop("any", None)
        return properties | saved if isinstance(saved, dict) else properties

    return decode


def _content(subsystem: Any, item: MatObject) -> dict[str, Any]:
    """An object's properties as mat-io has them."""
    try:
        with warnings.catch_warnings(action="ignore"):
            found = subsystem.load_mcos_object(item.reference, "MCOS")
    except Exception as error:
        raise ValueError(f"its record is damaged ({error!r})") from error
    if not isinstance(found, MatlabOpaque) or not isinstance(found.properties, dict):
        raise ValueError("it is an array of objects, or a deleted one")
    if found.classname != item.classname:
        raise ValueError(f"the file's subsystem calls it a {found.classname}")
    properties: dict[str, Any] = found.properties
    return properties


def _subsystem(path: Path) -> tuple[Any, str]:
    """mat-io's view of the subsystem, or None and the reason why there is none."""
    with warnings.catch_warnings(record=True, action="always") as said:
        try:
            subsystem = _parsed(path)
        except ReadError:
            raise
        except Exception as error:
            return None, f"the file's subsystem cannot be parsed ({error!r})"
    if subsystem is None:
        return None, "the file has no subsystem, which would hold it"
    # mat-io leaves the version empty when it gave up.
    reason = str(said[-1].message) if said else "no FileWrapper__ in it"
    return (None if subsystem.version is None else subsystem), reason


def _parsed(path: Path) -> Any:
    memory.at("class objects")
    _, _, byte_order = read_mat_header(path)
    if not h5py.is_hdf5(path):
        walked = mat_v5.subsystem(path)
        return walked and matreader5.read_subsystem(walked, _HEADER, byte_order, True, False)
    with h5py.File(path, "r") as file:
        return matreader7.read_subsystem(file, byte_order, True, False)
