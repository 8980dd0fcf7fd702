"""The descriptor gate: do the artifacts rank a set of images alike?

Images are described one after the other; nothing grows with their number but
the descriptors. Distances are L2 in float64, ties go by path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from converters.errors import ConversionError
from netvlad_keras.preprocess import ImageError, load_image
from verify.capture import Array

__all__ = ["Agreement", "Described", "Gate", "compare", "describe", "listed", "positions"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
DIMENSIONS = (128, 256, 512)
RECALLS = (1, 5, 10, 20)
RADIUS = 25.0
_POSITION = re.compile(r"@(-?\d+(?:\.\d+)?)@(-?\d+(?:\.\d+)?)@")


class Describes(Protocol):
    """What the gate asks of an artifact: `verify.capture.Runner` has it."""

    def deployed(self, images: Array) -> Mapping[str, Array]:
        """Outputs as a user of the artifact gets them, the descriptor last."""
        ...


@dataclass(frozen=True, slots=True)
class Described:
    """Descriptors of one artifact: N×D for the paths, and what could not be read."""

    paths: tuple[Path, ...]
    descriptors: Array
    broken: Mapping[Path, str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One artifact against the first, for one length of descriptor.

    max_l2, min_cosine  over all images; `worst` is the image.
    top1, topk          share of queries with the same first match, the same k
                        matches in the same order.
    recall              N -> share of queries with a match within `RADIUS`
                        metres among the first N; empty without positions.
    recall_change       against the first artifact.
    """

    artifact: str
    dimension: int
    max_l2: float
    min_cosine: float
    worst: Path
    top1: float
    topk: float
    recall: Mapping[int, float]
    recall_change: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Gate:
    """All agreements, the images that could not be read, and the limits."""

    agreements: tuple[Agreement, ...]
    broken: Mapping[Path, str]
    images: int
    queries: int
    limit: float

    @property
    def passed(self) -> bool:
        """Every descriptor within the limit, every query with the same first match."""
        return all(row.max_l2 <= self.limit and row.top1 == 1.0 for row in self.agreements)


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

    A broken image is named and left out.
    """
    broken: dict[Path, str] = {}
    rows = dict(_rows(artifact, paths, size, broken))
    if not rows:
        raise ConversionError("none of the images could be read")
    return Described(tuple(rows), np.stack(list(rows.values())), broken)


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
        outputs = artifact.deployed(image[None])
        yield path, np.asarray(list(outputs.values())[-1][0], np.float32)


def compare(
    described: Mapping[str, tuple[Described, Described]],
    *,
    limit: float = 1e-4,
    k: int = 10,
    crop: bool = False,
) -> Gate:
    """Hold every artifact's (database, queries) against the first's.

    `crop` compares the first 128, 256 and 512 dimensions too, normalised
    again: for whitened descriptors alone.
    """
    (first, (database, queries)), *others = described.items()
    full = database.descriptors.shape[1]
    sizes = [d for d in DIMENSIONS if crop and d < full] + [full]
    rows = []
    for dimension in sizes:
        reference = _ranked(database, queries, dimension)
        before = _recall(database.paths, queries.paths, reference)
        for name, (other_database, other_queries) in others or [(first, (database, queries))]:
            pair = (_joined(database, queries), _joined(other_database, other_queries))
            ranks = _ranked(other_database, other_queries, dimension)
            recall = _recall(other_database.paths, other_queries.paths, ranks)
            l2, cosine = _differences(*pair, dimension)
            worst = int(l2.argmax())
            rows.append(
                Agreement(
                    artifact=name,
                    dimension=dimension,
                    max_l2=float(l2.max()),
                    min_cosine=float(cosine.min()),
                    worst=(*database.paths, *queries.paths)[worst],
                    top1=float((ranks[:, 0] == reference[:, 0]).mean()),
                    topk=float((ranks[:, :k] == reference[:, :k]).all(axis=1).mean()),
                    recall=recall,
                    recall_change={n: recall[n] - before[n] for n in recall},
                )
            )
    broken = {**database.broken, **queries.broken}
    return Gate(tuple(rows), broken, len(database.paths), len(queries.paths), limit)


def _joined(database: Described, queries: Described) -> Array:
    return np.concatenate([database.descriptors, queries.descriptors])


def _cropped(descriptors: Array, dimension: int) -> Array:
    """The first dimensions in float64, of length 1 again where something was cut."""
    wide = descriptors[:, :dimension].astype(np.float64)
    if dimension == descriptors.shape[1]:
        return wide
    unit: Array = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _differences(first: Array, second: Array, dimension: int) -> tuple[Array, Array]:
    if first.shape != second.shape:
        raise ConversionError(f"descriptors of {first.shape} and {second.shape} do not compare")
    one, two = _cropped(first, dimension), _cropped(second, dimension)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    cosine: Array = (one * two).sum(axis=1) / norms
    return np.linalg.norm(one - two, axis=1), cosine


def _ranked(database: Described, queries: Described, dimension: int) -> Array:
    """Indices into the database for each query, nearest first, ties by path."""
    base = _cropped(database.descriptors, dimension)
    return np.stack(
        [
            np.argsort(np.square(base - query).sum(axis=1), kind="stable")
            for query in _cropped(queries.descriptors, dimension)
        ]
    )


def positions(paths: Sequence[Path]) -> Array | None:
    """UTM easting and northing out of names like `@0412345.6@4567890.1@….jpg`, N×2 metres.

    None where a name has none.
    """
    found = [_POSITION.search(path.name) for path in paths]
    if not all(found):
        return None
    return np.array([[float(m[1]), float(m[2])] for m in found if m])


def _recall(database: Sequence[Path], queries: Sequence[Path], ranks: Array) -> dict[int, float]:
    places, asked = positions(database), positions(queries)
    if places is None or asked is None:
        return {}
    hits = np.linalg.norm(asked[:, None] - places[ranks], axis=2) <= RADIUS
    return {n: float(hits[:, :n].any(axis=1).mean()) for n in RECALLS if n <= len(database)}
