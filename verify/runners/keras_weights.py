"""Reads Keras 3's `.weights.h5`: weights to compare, nothing to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from converters.errors import ReadError
from verify.capture import Array
from verify.names.canonical import canonical_layer
from verify.names.given import Names, check
from verify.names.keras_weights import ORDER, USUAL
from verify.names.weights import KERAS, by_name
from verify.runners import hdf5
from verify.runners.layered import Layered, weights_only

__all__ = ["open"]

_NOTE = "the file holds weights alone: there is nothing to run"


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open a file that `save_weights` wrote; `names`: canonical weight -> `layer/weight` there.

    Raises `ReadError` for any other file, and for one that leads out of itself.
    """
    with _file(path) as file:
        hdf5.check(path, file)
        if "layers" not in file:
            raise ReadError(path, "is not a Keras 3 weights file: it has no group 'layers'")
        datasets = dict(_datasets(file["layers"]))
        check(names, datasets, path)

    def stored() -> dict[str, Array]:
        with _file(path) as file:
            found = {name: np.asarray(file[place][()]) for name, place in datasets.items()}
        return by_name(found, KERAS, names)

    return weights_only("weights", path, stored, (_NOTE,))


def _file(path: Path) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ReadError(path, f"cannot be read as HDF5: {error}") from error


def _datasets(layers: Any) -> Iterator[tuple[str, str]]:
    """A weight's name, and where it is in the file."""
    for group in layers.values():
        stored = group.get("vars")
        if stored is None or not len(stored):
            continue
        layer = canonical_layer(str(stored.attrs.get("name", group.name.rpartition("/")[2])))
        numbers = tuple(str(number) for number in range(len(stored)))
        weights = ORDER.get((layer, len(stored))) or USUAL.get(len(stored), numbers)
        for number, weight in zip(numbers, weights, strict=True):
            yield f"{layer}/{weight}", f"{stored.name}/{number}"
