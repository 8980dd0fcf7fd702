"""Recall@N: the share of queries that have their place among the first N matches.

As `testCoreRank.m` of NetVLAD counts it: a match is right within a radius of the query, and a
query that no image of the database is near counts as missed. Beside it stands the chance level,
what a ranking in random order would give: a recall there means that descriptors and images,
or images and positions, do not belong together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AT", "Recall", "measured", "near"]

Array = NDArray[Any]

AT = (1, 5, 10, 20)
_SIGMAS = 3


@dataclass(frozen=True, slots=True)
class Recall:
    """What was measured.

    curve   recall@1, @2, …, each 0 to 1.
    chance  the same of a ranking in random order.
    queries, database  how many images.
    lonely  queries that no image of the database is near.
    spread  standard deviation of the recall@1 of a random ranking.
    """

    curve: tuple[float, ...]
    chance: tuple[float, ...]
    queries: int
    database: int
    lonely: int
    spread: float

    @property
    def at_chance(self) -> bool:
        """Whether recall@1 cannot be told from chance, at three standard deviations."""
        return self.curve[0] <= self.chance[0] + _SIGMAS * self.spread

    def at(self, counts: Sequence[int] = AT) -> dict[int, float]:
        """Recall@N for those N that the ranking reaches."""
        return {n: self.curve[n - 1] for n in counts if n <= len(self.curve)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        chance: Mapping[int, float] = {n: self.chance[n - 1] for n in self.at()}
        return {
            "recall": {str(n): value for n, value in self.at().items()},
            "chance": {str(n): value for n, value in chance.items()},
            "at_chance": self.at_chance,
            "curve": list(self.curve),
            "queries": self.queries,
            "database": self.database,
            "queries_without_a_match": self.lonely,
        }


def near(database: Array, queries: Array, radius: float) -> NDArray[np.int64]:
    """How many of `database` [M, 2] lie within `radius` of each of `queries` [Q, 2], metres."""
    limit = radius**2
    counts = (np.square(database - query).sum(axis=1) <= limit for query in queries)
    return np.array([int(inside.sum()) for inside in counts], np.int64)


def measured(indices: Array, database: Array, queries: Array, radius: float) -> Recall:
    """Recall of a ranking: `indices` [Q, N] into the database, nearest first.

    `database` [M, 2] and `queries` [Q, 2] are positions in metres.
    """
    right = np.square(database[indices] - queries[:, None]).sum(axis=2) <= radius**2
    hits = np.logical_or.accumulate(right, axis=1)
    counts = near(database, queries, radius)
    missed = _missed(counts, len(database), indices.shape[1])
    first = 1 - missed[:, 0]
    return Recall(
        curve=tuple(hits.mean(axis=0).tolist()),
        chance=tuple((1 - missed.mean(axis=0)).tolist()),
        queries=len(queries),
        database=len(database),
        lonely=int((counts == 0).sum()),
        spread=math.sqrt(float((first * (1 - first)).sum())) / len(queries),
    )


def _missed(counts: NDArray[np.int64], size: int, depth: int) -> NDArray[np.float64]:
    """[Q, depth]: how likely it is that N images, drawn without putting back, are all wrong."""
    drawn = np.arange(depth)
    wrong = np.maximum(size - counts[:, None] - drawn, 0) / (size - drawn)
    return np.cumprod(wrong, axis=1)
