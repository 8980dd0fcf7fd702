"""Exact search by squared L2: the same answers with faiss and without.

A nominator (faiss where it is installed, NumPy otherwise) names candidates with approximate
distances and says how far off those can be. The distances of the candidates are then computed
in float64 from the differences themselves, and an answer stands only where no image outside
the candidates can come before it; else more candidates are asked for. Ties go by the order of
the database, which is that of the paths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Nomination", "Ranking", "default_engine", "search"]

Array = NDArray[Any]

#: Engine -> the module with its `nominator(database, mean)`.
_ENGINES = {"faiss": "index_faiss", "numpy": "index_numpy"}

_SPARE = 32  # candidates beyond those asked for, at first
_MORE = 8  # times as many in the next round
_QUERIES = 256  # at a time
_ELEMENTS = 1 << 23  # float64 numbers in memory at a time: 64 MB


@dataclass(frozen=True, slots=True)
class Ranking:
    """The nearest images of each query, nearest first.

    indices   [Q, N] into the database.
    distances [Q, N] squared L2, float64.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Nomination:
    """Candidates of each query.

    indices [Q, k] into the database, in any order.
    beyond  [Q] no image that is not among them is nearer than this, squared L2.
    """

    indices: Array
    beyond: Array


#: (queries [Q, D], k) -> k candidates of each.
Nominator = Callable[[Array, int], Nomination]


def default_engine() -> str:
    """`faiss` where it is installed, else `numpy`."""
    return "faiss" if find_spec("faiss") else "numpy"


def search(database: Array, queries: Array, count: int, *, engine: str | None = None) -> Ranking:
    """The `count` nearest of `database` [M, D] (all M if there are fewer) for `queries` [Q, D].

    Any real numbers: descriptors, or positions in metres. Equal distances go by index. Raises
    `ValueError` for shapes that do not go together, NaN and infinity, and an empty database.
    """
    _check(database, queries, count)
    module = import_module(f"netvlad_keras.{_ENGINES[engine or default_engine()]}")
    mean = np.mean(database, axis=0, dtype=np.float64)
    count = min(count, len(database))
    nominate: Nominator = module.nominator(database, mean)
    found = [
        _settled(database, queries[at : at + _QUERIES], count, nominate)
        for at in range(0, len(queries), _QUERIES)
    ]
    empty = np.empty((0, count))
    indices = [ranking.indices for ranking in found] or [empty.astype(np.int64)]
    distances = [ranking.distances for ranking in found] or [empty]
    return Ranking(np.concatenate(indices), np.concatenate(distances))


def _settled(database: Array, queries: Array, count: int, nominate: Nominator) -> Ranking:
    """Ask for candidates until no other image can come before those that are kept."""
    indices = np.empty((len(queries), count), np.int64)
    distances = np.empty((len(queries), count), np.float64)
    waiting = np.arange(len(queries))
    asked = count + _SPARE
    while len(waiting):
        nomination = nominate(queries[waiting], min(asked, len(database)))
        settled = np.zeros(len(waiting), bool)
        for at, query in enumerate(waiting):
            candidates = np.sort(nomination.indices[at])
            squared = _squared(database, candidates, queries[query])
            order = np.argsort(squared, kind="stable")[:count]
            indices[query], distances[query] = candidates[order], squared[order]
            everything = len(candidates) == len(database)
            settled[at] = everything or distances[query, -1] < nomination.beyond[at]
        waiting = waiting[~settled]
        asked *= _MORE
    return Ranking(indices, distances)


def _check(database: Array, queries: Array, count: int) -> None:
    if database.ndim != 2 or queries.ndim != 2 or database.shape[1] != queries.shape[1]:
        raise ValueError(f"database {database.shape} and queries {queries.shape} do not match")
    if not len(database) or count < 1:
        raise ValueError(f"{count} of {len(database)} images cannot be found")
    if not (np.isfinite(database).all() and np.isfinite(queries).all()):
        raise ValueError("NaN or infinity has no neighbours")


def _squared(database: Array, candidates: Array, query: Array) -> NDArray[np.float64]:
    """Squared L2 in float64 from the differences: a function of the two vectors alone."""
    step = max(1, _ELEMENTS // database.shape[1])
    wide = query.astype(np.float64)
    found = [
        np.square(database[candidates[at : at + step]] - wide).sum(axis=1)
        for at in range(0, len(candidates), step)
    ]
    return np.concatenate(found)
