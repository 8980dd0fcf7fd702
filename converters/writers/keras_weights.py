"""Writes `model.weights.h5`, Keras 3's format for weights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converters.writers.options import WriteOptions

__all__ = ["write"]


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Save the weights of `model`; `NetVLADModel(spec).load_weights(path)` reads them."""
    model.save_weights(path)
