"""Reads NetVLAD's Keras weights: this project's own files and the first port's `.h5`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from converters.checkpoint import Array, Checkpoint, Origin
from converters.errors import ReadError
from netvlad_keras.spec import IMAGENET_MEAN
from netvlad_keras.weights import WeightsError, opened

__all__ = ["read"]


def read(path: Path) -> Checkpoint:
    """Read a `.h5`, `.weights.h5` or `.keras` file of NetVLAD weights.

    Tensors carry the model's own names (`conv1_1/kernel`); there are no
    layers. A spec that the file records stands in `preprocessing["spec"]`.
    Raises `ReadError`.
    """
    path = Path(path)
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


def _refuse_not_finite(path: Path, tensors: dict[str, Array]) -> None:
    bad = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if bad:
        raise ReadError(path, f"holds NaN or infinity in {', '.join(bad)}")
