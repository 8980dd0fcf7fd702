"""Writes `model.h5`, Keras's HDF5 format for a whole model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from converters.writers.options import WriteOptions

__all__ = ["write"]


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Save `model` so that `keras.saving.load_model` opens it without custom_objects."""
    # Keras calls the format legacy at every save; here it was asked for.
    logging.getLogger("absl").setLevel(logging.ERROR)
    model.save(path)
