"""The folder of a training: what lies in it, and one run in it at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras
from filelock import FileLock, Timeout

from netvlad_keras.errors import EnvironmentFailure
from netvlad_keras.recipe import Row
from netvlad_keras.results import replacing

__all__ = ["BEST", "CHECKPOINT", "CURVES", "alone", "save", "write_curves"]

BEST, CHECKPOINT, CURVES = "model.keras", "checkpoint.npz", "curves.csv"


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


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """One run at a time in a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock", blocking=False):
            yield
    except Timeout as error:
        raise EnvironmentFailure(f"{out}: another run is training there") from error
