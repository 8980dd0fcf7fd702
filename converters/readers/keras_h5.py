"""Reads NetVLAD's Keras weights: this project's own files and the first port's `.h5`."""

from __future__ import annotations

import io
import zipfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from converters.checkpoint import Array, Checkpoint, Origin
from converters.errors import ReadError
from converters.readers import memory
from converters.readers.hdf5_scan import walk
from netvlad_keras.spec import IMAGENET_MEAN
from netvlad_keras.weights import WeightsError, opened

__all__ = ["read"]

_SWELL = 64  # Keras stores its archive's members as they are


def read(path: Path) -> Checkpoint:
    """Read a `.h5`, `.weights.h5` or `.keras` file of NetVLAD weights.

    Tensors carry the model's own names (`conv1_1/kernel`); there are no
    layers. A spec that the file records stands in `preprocessing["spec"]`.
    Raises `ReadError`.
    """
    path = Path(path)
    _scan(path)
    memory.at("values")
    try:
        with opened(path) as file:
            tensors: dict[str, Array] = {k: np.asarray(v) for k, v in file.entries.items()}
    except WeightsError as error:
        raise ReadError(path, str(error).removeprefix(f"{path}: ")) from error
    _refuse_not_finite(path, tensors)
    notes = []
    if "input/mean" in file.lacks:
        tensors["input/mean"] = np.asarray(IMAGENET_MEAN, np.float32)
        notes.append("the file holds no mean; ImageNet's is taken, as the first Keras port did")
    record: dict[str, Any] = {"spec": file.spec.to_dict()} if file.spec else {}
    session = file.spec.name if file.spec else ""
    origin = Origin(path, "keras_h5", (path,), session, tuple(notes))
    return Checkpoint(tensors, (), record, origin)


def _scan(path: Path) -> None:
    """Refuse an HDF5 file that leads out of itself, declares what it lacks, or holds itself.

    What cannot be opened at all is left to the reader, which says why.
    """
    memory.at("pre-scan")
    with suppress(OSError, zipfile.BadZipFile, KeyError), ExitStack() as stack:
        source: Path | io.BytesIO = path
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            weights = archive.getinfo("model.weights.h5")
            if weights.file_size > _SWELL * path.stat().st_size:
                raise ReadError(path, f"its weights would swell to {weights.file_size} bytes")
            source = io.BytesIO(archive.read(weights))
        file = stack.enter_context(h5py.File(source, "r"))
        try:
            walk(file["/"])
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise ReadError(path, f"cannot be parsed: {error}") from error
        except ReadError as error:
            raise ReadError(path, error.reason, advice=error.advice) from error


def _refuse_not_finite(path: Path, tensors: dict[str, Array]) -> None:
    bad = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if bad:
        raise ReadError(path, f"holds NaN or infinity in {', '.join(bad)}")
