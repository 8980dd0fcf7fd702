"""The folder of a training: what lies in it, and one run in it at a time."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import keras

from netvlad_keras.recipe import Row
from netvlad_keras.results import replacing

__all__ = ["BEST", "CHECKPOINT", "CURVES", "WHITE", "forget", "save", "write_curves"]

BEST, CHECKPOINT, CURVES = "model.keras", "checkpoint.npz", "curves.csv"
WHITE = "model_white.keras"


def save(model: keras.Model, path: Path) -> None:
    """Write the net alone, as everybody loads it: not compiled, without the optimizer."""
    plain = type(model).from_config(model.get_config())
    plain.set_weights(model.get_weights())
    with replacing(path) as draft:
        written = draft.with_suffix(".keras")
        plain.save(written)
        written.replace(draft)


def write_curves(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write a .csv, a line for each epoch."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def forget(out: Path) -> None:
    """Remove what earlier runs left in the folder."""
    for name in (CHECKPOINT, CURVES, BEST, WHITE):
        (out / name).unlink(missing_ok=True)
