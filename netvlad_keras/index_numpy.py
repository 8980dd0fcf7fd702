"""Candidates by NumPy: one matrix product in float64 for each block of the database."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.index import Nomination, Nominator

__all__ = ["nominator"]

Array = NDArray[Any]

_ELEMENTS = 1 << 23  # float64 numbers of the database in memory at a time: 64 MB


def nominator(database: Array, mean: Array) -> Nominator:
    """For `database` [M, D], centred on `mean` [D] so that no digits are lost to an offset."""

    def nominate(queries: Array, count: int) -> Nomination:
        return _nominated(database, queries - mean, mean, count)

    return nominate


def _nominated(database: Array, asked: Array, mean: Array, count: int) -> Nomination:
    lengths = np.square(asked).sum(axis=1)
    distances = np.full((len(asked), 0), np.inf)
    indices = np.zeros((len(asked), 0), np.int64)
    step = max(1, _ELEMENTS // database.shape[1])
    longest = 0.0
    for at in range(0, len(database), step):
        block = database[at : at + step] - mean
        squares = np.square(block).sum(axis=1)
        longest = max(longest, float(squares.max()))
        near = squares - 2 * (asked @ block.T) + lengths[:, None]
        distances = np.concatenate([distances, near], axis=1)
        numbers = np.broadcast_to(np.arange(at, at + len(block)), near.shape)
        indices = np.concatenate([indices, numbers], axis=1)
        if count < distances.shape[1]:
            kept = np.argpartition(distances, count - 1, axis=1)[:, :count]
            distances = np.take_along_axis(distances, kept, axis=1)
            indices = np.take_along_axis(indices, kept, axis=1)
    # The expanded square is off by no more than the rounding of (|q| + |x|)².
    rounding = (database.shape[1] + 8) * np.finfo(np.float64).eps
    slack = rounding * np.square(np.sqrt(lengths) + np.sqrt(longest))
    return Nomination(indices, distances.max(axis=1) - slack)
