"""Writes `model.keras`, Keras 3's archive, the same bytes at every run."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras

from converters.writers.options import WriteOptions

__all__ = ["write"]

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Write the three members of Keras's archive, without the time of day in them.

    `model.save` would put the time in, and, where it finds the memory, holds the whole
    archive in it.
    """
    weights = path.with_name(f"draft-{path.stem}.weights.h5")
    metadata = {"keras_version": keras.__version__, "date_saved": "1980-01-01@00:00:00"}
    try:
        model.save_weights(weights)
        with zipfile.ZipFile(path, "w") as archive:
            _text(archive, "config.json", keras.saving.serialize_keras_object(model))
            _text(archive, "metadata.json", metadata)
            entry = zipfile.ZipInfo("model.weights.h5", _EPOCH)
            entry.file_size = weights.stat().st_size
            with weights.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    finally:
        weights.unlink(missing_ok=True)


def _text(archive: zipfile.ZipFile, name: str, content: dict[str, Any]) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), json.dumps(content))
