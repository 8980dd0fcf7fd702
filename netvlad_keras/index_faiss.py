"""Candidates by faiss's flat index, in float32."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from netvlad_keras.index import Nomination, Nominator

__all__ = ["nominator"]

Array = NDArray[Any]

_ELEMENTS = 1 << 23  # float64 numbers of the database in memory at a time: 64 MB


def nominator(database: Array, mean: Array) -> Nominator:
    """For `database` [M, D], centred on `mean` [D] before it is rounded to float32."""
    index = faiss.IndexFlatL2(database.shape[1])
    step = max(1, _ELEMENTS // database.shape[1])
    longest = 0.0
    for at in range(0, len(database), step):
        block = database[at : at + step] - mean
        longest = max(longest, float(np.square(block).sum(axis=1).max()))
        index.add(np.ascontiguousarray(block, np.float32))
    rounding = (database.shape[1] + 8) * np.finfo(np.float32).eps

    def nominate(queries: Array, count: int) -> Nomination:
        asked = queries - mean
        distances, indices = index.search(np.ascontiguousarray(asked, np.float32), count)
        # Off by no more than the rounding of (|q| + |x|)², that of the inputs included.
        lengths = np.linalg.norm(asked, axis=1)
        slack = rounding * np.square(lengths + np.sqrt(longest))
        return Nomination(indices, distances.max(axis=1).astype(np.float64) - slack)

    return nominate
