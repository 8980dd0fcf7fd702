"""The descriptor gate: do the artifacts rank a set of images alike?

Artifacts are opened one after the other, and so are images; nothing grows with
their number but the descriptors.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from converters.errors import ConversionError, EnvironmentFailure
from netvlad_keras.preprocess import ImageError, load_image
from verify.capture import Array
from verify.formats import open_artifact
from verify.ranking import Described, Gate, compare

__all__ = ["describe", "listed", "run"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


class Describes(Protocol):
    """What the gate asks of an artifact: `verify.capture.Runner` has it."""

    def deployed(self, images: Array) -> Mapping[str, Array]:
        """Outputs as a user of the artifact gets them, the descriptor last."""
        ...


def run(options: argparse.Namespace) -> Gate:
    """The command `images`: one artifact after the other describes all images.

    Raises `ConversionError` where there is nothing to compare, `EnvironmentFailure` where the
    CSV cannot be written.
    """
    paths = {str(path): path for path in options.artifacts}
    if len(paths) < 2:
        raise ConversionError("one artifact agrees with itself", advice="Name another.")
    folders = listed(options.database), listed(options.queries)
    described = {}
    whitened = True
    for name, path in paths.items():
        artifact = open_artifact(path)
        if not artifact.layers:
            raise ConversionError(f"{path}: holds weights alone, nothing that describes an image")
        whitened = whitened and "WPCA" in artifact.layers
        database, queries = (describe(artifact, images, options.size) for images in folders)
        described[name] = database, queries
    gate = compare(described, limit=options.limit, k=options.top, crop=whitened)
    if options.csv:
        _write(gate, options.csv)
    return gate


def _write(gate: Gate, path: Path) -> None:
    """Every image's L2 and cosine, a line for each artifact and length of descriptor."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "artifact", "dimensions", "l2", "cosine"])
    for row in gate.agreements:
        for image, l2, cosine in zip(row.images, row.l2, row.cosine, strict=True):
            table.writerow([image, row.artifact, row.dimension, f"{l2:.6e}", f"{cosine:.12f}"])
    try:
        path.write_text(text.getvalue(), "utf-8")
    except OSError as error:
        raise EnvironmentFailure(f"{path}: cannot be written: {error.strerror}") from error


def listed(folder: Path) -> list[Path]:
    """The images below a folder, in the order of their paths.

    Raises `ConversionError` where there are none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ConversionError(f"{folder}: no images ({', '.join(SUFFIXES)})")
    return found


def describe(
    artifact: Describes, paths: Sequence[Path], size: tuple[int, int] | None = None
) -> Described:
    """Describe images one by one, resized to `size` (height, width) if given.

    A broken image is named and left out. Raises `ConversionError` with the image that the
    artifact does not take, and where none could be read.
    """
    broken: dict[Path, str] = {}
    read: list[Path] = []
    descriptors = np.empty((0, 0), np.float32)
    for path, row in _rows(artifact, paths, size, broken):
        if not read:
            descriptors = np.empty((len(paths), len(row)), np.float32)
        descriptors[len(read)] = row
        read.append(path)
    if not read:
        path, reason = next(iter(broken.items()))
        raise ConversionError(f"none of the images could be read: {path}: {reason}")
    return Described(tuple(read), descriptors[: len(read)], broken)


def _rows(
    artifact: Describes,
    paths: Sequence[Path],
    size: tuple[int, int] | None,
    broken: dict[Path, str],
) -> Iterator[tuple[Path, Array]]:
    for path in paths:
        try:
            image = load_image(path, size=size)
        except ImageError as error:
            broken[path] = error.reason
            continue
        try:
            *_, last = artifact.deployed(image[None]).values()
        except ConversionError as error:
            raise ConversionError(f"{path}: {error.message}", advice=error.advice) from error
        if last.ndim != 2:
            raise ConversionError(f"{path}: its descriptor is no vector, {last.shape[1:]}")
        yield path, last[0]
