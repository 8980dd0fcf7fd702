"""Which images a query is trained with: the nearest positive and the hardest negatives.

As NetVLAD's trainWeakly.m and datasets/dbBase.m do it, in plain NumPy. Distances are those of
features that are cached for all images and renewed now and then; random numbers come from a
generator that each epoch starts anew, so that an epoch can be repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import TrainingError

__all__ = ["Miner", "Mining", "Triplets", "Tuple", "rounds"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Mining:
    """The numbers of the mining, the original's by default.

    margin      of the loss, in squared L2 distance.
    sampled     random negatives that are looked at for a query,
    remembered  and those nearest ones of its last time with them.
    searched    how many of the nearest are asked whether they violate the margin.
    kept        negatives of a tuple at most.
    positive_above, positive_to   metres between a query and a positive: above, and up to.
    negative_above                metres between a query and a negative.

    Raises `TrainingError` for numbers that mean nothing.
    """

    margin: float = 0.1
    sampled: int = 1000
    remembered: int = 10
    searched: int = 100
    kept: int = 10
    positive_above: float = 1.0
    positive_to: float = 10.0
    negative_above: float = 25.0

    def __post_init__(self) -> None:
        known = {
            "margin": math.isfinite(self.margin),
            "sampled": self.sampled >= 1,
            "remembered": self.remembered >= 0,
            "searched": self.searched >= 1,
            "kept": self.kept >= 1,
            "positive_to": 0 <= self.positive_above <= self.positive_to < math.inf,
            "negative_above": 0 <= self.negative_above < math.inf,
        }
        if wrong := [f"{name} {getattr(self, name)}" for name, right in known.items() if not right]:
            raise TrainingError(f"no mining can have {', '.join(wrong)}")


@dataclass(frozen=True, slots=True)
class Tuple:
    """A query, its positive, and negatives from near to far: indices into the image lists."""

    query: int
    positive: int
    negatives: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Triplets:
    """What was found for a query: nothing to train with, if no negative violates the margin.

    considered  negatives that would have been kept, had all of them violated it.
    """

    tuple: Tuple | None
    considered: int


class Miner:
    """Finds tuples among `database` [M, 2] for `queries` [Q, 2], positions in metres."""

    def __init__(
        self, database: Array, queries: Array, options: Mining | None = None, *, seed: int = 43
    ) -> None:
        self.options = options or Mining()
        self._database = np.asarray(database, np.float64)
        self._queries = np.asarray(queries, np.float64)
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._memory: list[NDArray[np.int64]] = [np.empty(0, np.int64) for _ in self._queries]

    def begin(self, epoch: int) -> NDArray[np.int64]:
        """Start the random numbers of an epoch (1, 2, …). Returns the order of its queries."""
        self._random = np.random.default_rng((self._seed, epoch))
        return self._random.permutation(len(self._queries))

    def positives(self, query: int) -> NDArray[np.int64]:
        """Images of the database that may show the place of the query."""
        squares = self._squares(query)
        low, high = self.options.positive_above**2, self.options.positive_to**2
        return np.flatnonzero((squares > low) & (squares <= high))

    def negatives(self, query: int) -> NDArray[np.int64]:
        """Images of the database that cannot show it."""
        return np.flatnonzero(self._squares(query) > self.options.negative_above**2)

    def mine(self, query: int, database: Array, queries: Array) -> Triplets:
        """The tuple of a query, by features `database` [M, D] and `queries` [Q, D].

        Also remembers its hardest negatives for its next time.
        """
        positives, negatives = self.positives(query), self.negatives(query)
        if not len(positives) or not len(negatives):
            return Triplets(None, 0)
        options, feature = self.options, queries[query]
        (positive,), (nearest,) = _nearest(database, positives, feature, 1)
        drawn = self._random.choice(negatives, min(options.sampled, len(negatives)), replace=False)
        asked = np.union1d(self._memory[query], drawn)
        found, squares = _nearest(database, asked, feature, options.searched)
        self._memory[query] = found[: options.remembered]
        hard = found[squares < nearest + options.margin][: options.kept]
        considered = min(options.kept, len(found))
        if not len(hard):
            return Triplets(None, considered)
        return Triplets(Tuple(query, int(positive), tuple(map(int, hard))), considered)

    def state(self) -> dict[str, Array]:
        """All that a later `restore` needs, as arrays."""
        lengths = np.array([len(each) for each in self._memory], np.int64)
        random = json.dumps(self._random.bit_generator.state)
        flat = np.concatenate([np.empty(0, np.int64), *self._memory])
        return {"lengths": lengths, "memory": flat, "random": np.array(random)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from what `state` gave. Raises `ValueError` for that of other queries."""
        if len(state["lengths"]) != len(self._queries):
            raise ValueError(f"{len(state['lengths'])} queries and not {len(self._queries)}")
        self._memory = np.split(state["memory"], np.cumsum(state["lengths"])[:-1])
        self._random.bit_generator.state = json.loads(str(state["random"]))

    def _squares(self, query: int) -> NDArray[np.float64]:
        """Squared metres from a query to every image of the database."""
        return np.asarray(np.square(self._database - self._queries[query]).sum(axis=1))


def rounds(batches: int, every: int) -> Sequence[range]:
    """The batches of an epoch, cut where the cached features are renewed.

    That is before each batch whose number, counted from 1, `every` divides, but for the first
    and the last of them.
    """
    starts = [number - 1 for number in range(2, batches) if number % every == 0]
    ends = [*starts, batches]
    return [range(at, end) for at, end in zip([0, *starts], ends, strict=True) if at < end]


def _nearest(database: Array, ids: Array, feature: Array, count: int) -> tuple[Array, Array]:
    """The `count` of `ids` that are nearest to a feature, and their squared distances.

    Of equals, the one that comes first in `ids`.
    """
    difference = database[ids] - feature
    squares = np.einsum("nd,nd->n", difference, difference)
    order = np.argsort(squares, kind="stable")[:count]
    return ids[order], squares[order]
