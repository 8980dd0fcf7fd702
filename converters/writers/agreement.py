"""Two sets of descriptors of the same images: how far apart, and do they rank alike?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "agreement"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Every image asks for its nearest among the others.

    top1    share of images with the same first match.
    top10   share of the ten nearest (or of all there are) that are the same, whatever order.
    l2      the largest distance between an image's two descriptors; `mean` of all.
    cosine  the smallest.
    """

    top1: float
    top10: float
    l2: float
    mean: float
    cosine: float

    def __str__(self) -> str:
        return (
            f"top-1 {self.top1:.3f}, top-10 {self.top10:.3f}, L2 at most {self.l2:.3g} "
            f"(mean {self.mean:.3g}), cosine at least {self.cosine:.6f}"
        )


def agreement(right: Array, found: Array) -> Agreement:
    """Hold `found` against `right`, both N×D in float64 of length 1, N at least 2."""
    first, second = _ranked(right), _ranked(found)
    depth = min(10, len(right) - 1)
    shared = [
        len(set(a) & set(b)) / depth
        for a, b in zip(first[:, :depth].tolist(), second[:, :depth].tolist(), strict=True)
    ]
    distances = np.linalg.norm(right - found, axis=1)
    return Agreement(
        top1=float((first[:, 0] == second[:, 0]).mean()),
        top10=float(np.mean(shared)),
        l2=float(distances.max()),
        mean=float(distances.mean()),
        cosine=float((right * found).sum(axis=1).min()),
    )


def _ranked(descriptors: Array) -> Array:
    """For each row the others, nearest first."""
    likeness = descriptors @ descriptors.T
    np.fill_diagonal(likeness, -np.inf)
    ranks: Array = np.argsort(-likeness, axis=1, kind="stable")[:, :-1]
    return ranks
