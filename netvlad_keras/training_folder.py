"""The folder of a training: what lies in it, and how one training makes way for another."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras

from netvlad_keras.recipe import Row
from netvlad_keras.results import replacing

__all__ = ["BEST", "CHECKPOINT", "CURVES", "WHITE", "anew", "save", "tidy", "write_curves"]

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


@contextmanager
def anew(out: Path, *, restart: bool) -> Iterator[None]:
    """With `restart`, an earlier training makes way for a new one.

    It comes back unless the new one has a checkpoint in the end; after a kill, with the next run.
    """
    before = out / ".before"
    if restart:
        if (out / CHECKPOINT).exists():  # what a kill left there is of a training before this one
            shutil.rmtree(before, ignore_errors=True)
        before.mkdir(exist_ok=True)
        for name in (CHECKPOINT, CURVES, BEST, WHITE):
            if (out / name).exists():
                (out / name).replace(before / name)
    try:
        yield
    finally:
        if before.is_dir():
            if not (out / CHECKPOINT).exists():
                for path in before.iterdir():
                    path.replace(out / path.name)
            shutil.rmtree(before)


def tidy(out: Path) -> None:
    """Remove what runs left that were killed while they wrote."""
    for name in (CHECKPOINT, CURVES, BEST, WHITE):
        for draft in out.glob(f".{name}*"):
            draft.unlink()
