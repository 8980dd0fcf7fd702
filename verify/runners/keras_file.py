"""Whether a Keras file may be opened: its configuration's classes, and where its links lead."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py

from converters.errors import ReadError
from verify.runners import hdf5, keras_config

__all__ = ["check"]

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_CONFIG_BYTES = 1 << 26


def check(path: Path) -> None:
    """Raise `ReadError` with what a file holds that must not be opened; Keras is not asked."""
    (_check_archive if zipfile.is_zipfile(path) else _check_hdf5)(path)


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if strangers := sorted(set(archive.namelist()) - _MEMBERS):
            raise ReadError(path, f"holds {', '.join(strangers)}, which a .keras file does not")
        if archive.getinfo("config.json").file_size > _CONFIG_BYTES:
            raise ReadError(path, "its config.json is too large to be a model's")
        keras_config.check(path, archive.read("config.json"))
        # HDF5 seeks to and fro, which costs a zip member a new start each time.
        with archive.open("model.weights.h5") as member, tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(member, copy, 1 << 20)
            with h5py.File(copy, "r") as weights:
                hdf5.check(path, weights)


def _check_hdf5(path: Path) -> None:
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        if config is None:
            raise ReadError(path, "holds weights alone, no model (no attribute model_config)")
        keras_config.check(path, config)
        hdf5.check(path, file)
