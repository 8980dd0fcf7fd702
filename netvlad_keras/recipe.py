"""How a net is trained: every number of the recipe, the original's by default. No Keras here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from netvlad_keras.errors import TrainingError
from netvlad_keras.mining import Mining

__all__ = ["Recipe", "Row", "Watcher"]

#: One line of the curves: `epoch`, `learning_rate`, `loss` (mean of the tuples), `active`
#: (share of the triplets that were considered), `recall@1`, … on the validation set.
Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Recipe:
    """NetVLAD's trainWeakly.m, as the published nets were trained.

    epochs         30; the best is picked by recall@5 on the validation set.
    batch          queries of a step; some of them give no tuple.
    learning_rate  1e-3 (Pitts30k) or 1e-4; divided by `drop` at each `drop_every` epochs.
    momentum, decay  of the descent; the decay is coupled.
    train_from     the first layer that is trained, by its Keras name; `None`: all are.
    renew_every    queries after which the cached features are renewed; times `drop` at
                   each drop. They are renewed at the end of an epoch too.
    feature_batch  images of one size that are described at a time.
    mining         see there; its margin is also the loss's.
    seed           of the order of the queries and of the negatives that are drawn.

    Raises `TrainingError` for numbers that mean nothing.
    """

    epochs: int = 30
    batch: int = 4
    learning_rate: float = 1e-3
    drop: float = 2.0
    drop_every: int = 5
    momentum: float = 0.9
    decay: float = 1e-3
    train_from: str | None = "conv5_1"
    renew_every: int = 1000
    feature_batch: int = 10
    mining: Mining = field(default_factory=Mining)
    seed: int = 43

    def __post_init__(self) -> None:
        known = {
            "epochs": self.epochs >= 1,
            "batch": self.batch >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "drop": 0 < self.drop < math.inf,
            "drop_every": self.drop_every >= 1,
            "momentum": 0 <= self.momentum < 1,
            "decay": 0 <= self.decay < math.inf,
            "renew_every": self.renew_every >= 1,
            "feature_batch": self.feature_batch >= 1,
            "seed": 0 <= self.seed < 1 << 32,
        }
        if wrong := [f"{name} {getattr(self, name)}" for name, right in known.items() if not right]:
            raise TrainingError(f"no recipe can have {', '.join(wrong)}")

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1: it drops at 6, 11, 16, …"""
        return self.learning_rate / self.drop ** self._drops(epoch)

    def renewal(self, epoch: int) -> int:
        """Batches of an epoch between two renewals of the cached features."""
        return max(1, round(-(-self.renew_every // self.batch) * self.drop ** self._drops(epoch)))

    def _drops(self, epoch: int) -> int:
        return (epoch - 1) // self.drop_every


class Watcher(Protocol):
    """What may be shown of a training while it runs."""

    def step(self, epoch: int, what: str, done: int, total: int) -> None:
        """`done` of `total` images were described, or steps taken."""
        ...

    def ended(self, row: Row) -> None:
        """An epoch is over, and its checkpoint written."""
        ...
