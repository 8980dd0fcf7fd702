"""The descriptors of several artifacts beside each other: distances, rankings, recall.

Distances are L2 in float64, ties go by path. Of a ranking the first matches are kept, so that
nothing grows with images times queries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.errors import ConversionError
from verify.capture import Array

__all__ = ["Agreement", "Described", "Gate", "compare", "positions"]

DIMENSIONS = (128, 256, 512)
RECALLS = (1, 5, 10, 20)
RADIUS = 25.0
_POSITION = re.compile(r"@(-?\d+(?:\.\d+)?)@(-?\d+(?:\.\d+)?)@")


@dataclass(frozen=True, slots=True)
class Described:
    """Descriptors of one artifact: N×D for the paths, and what could not be read."""

    paths: tuple[Path, ...]
    descriptors: Array
    broken: Mapping[Path, str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One artifact against the first, for one length of descriptor.

    images, l2, cosine  of each image, the database's before the queries'.
    top1, topk          share of queries with the same first match, the same k
                        matches in the same order.
    recall              N -> share of queries with a match within `RADIUS`
                        metres among the first N; empty without positions.
    recall_change       against the first artifact.
    """

    artifact: str
    dimension: int
    images: tuple[Path, ...]
    l2: Array
    cosine: Array
    top1: float
    topk: float
    recall: Mapping[int, float]
    recall_change: Mapping[int, float]

    @property
    def max_l2(self) -> float:
        """The largest; NaN if one is."""
        return float(self.l2.max())

    @property
    def min_cosine(self) -> float:
        """The smallest; NaN if one is."""
        return float(self.cosine.min())

    @property
    def worst(self) -> Path:
        """The image with the largest L2."""
        return self.images[int(self.l2.argmax())]


@dataclass(frozen=True, slots=True)
class Gate:
    """All agreements, the images that could not be read, the limit of an L2, and k."""

    agreements: tuple[Agreement, ...]
    broken: Mapping[Path, str]
    images: int
    queries: int
    limit: float
    k: int

    @property
    def passed(self) -> bool:
        """Every descriptor within the limit, every query with the same first match."""
        return all(row.max_l2 <= self.limit and row.top1 == 1.0 for row in self.agreements)


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
    (first, measure), *others = described.items()
    database, queries = measure
    full = database.descriptors.shape[1]
    depth = max(k, *RECALLS)
    rows = []
    for dimension in [d for d in DIMENSIONS if crop and d < full] + [full]:
        right = _ranked(*measure, dimension, depth)
        before = _recall(database.paths, queries.paths, right)
        for name, other in others or [(first, measure)]:
            l2, cosine = _differences(_joined(*measure), _joined(*other), dimension)
            ranks = _ranked(*other, dimension, depth)
            recall = _recall(database.paths, queries.paths, ranks)
            rows.append(
                Agreement(
                    artifact=name,
                    dimension=dimension,
                    images=(*database.paths, *queries.paths),
                    l2=l2,
                    cosine=cosine,
                    top1=float((ranks[:, 0] == right[:, 0]).mean()),
                    topk=float((ranks[:, :k] == right[:, :k]).all(axis=1).mean()),
                    recall=recall,
                    recall_change={n: recall[n] - before[n] for n in recall},
                )
            )
    broken = {**database.broken, **queries.broken}
    return Gate(tuple(rows), broken, len(database.paths), len(queries.paths), limit, k)


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


def _ranked(database: Described, queries: Described, dimension: int, depth: int) -> Array:
    """The first `depth` indices into the database for each query, nearest first, ties by path.

    A query that is in the database too is its own last match.
    """
    base = _cropped(database.descriptors, dimension)
    own = {path: index for index, path in enumerate(database.paths)}
    ranks = []
    for path, query in zip(queries.paths, _cropped(queries.descriptors, dimension), strict=True):
        distances = np.square(base - query).sum(axis=1)
        if path in own:  # it would always come first
            distances[own[path]] = np.inf
        ranks.append(np.argsort(distances, kind="stable")[:depth].copy())
    return np.stack(ranks)


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
