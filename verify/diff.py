"""Two artifacts against each other, layer by layer, where no source is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from verify.capture import Array, Runner

__all__ = ["Difference", "diff"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One layer of both.

    max_rel  largest |d| over the largest |value| of the first; `worst` its
             index, `first` and `second` the values there.
    problem  what makes a comparison impossible, in words.
    """

    layer: str
    max_rel: float = float("nan")
    worst: tuple[int, ...] = ()
    first: float = float("nan")
    second: float = float("nan")
    problem: str = ""


def diff(first: Runner, second: Runner, images: Array) -> Iterator[Difference]:
    """Run both on the same images, paired by name, in the first's order.

    A layer that only one of them has is a difference.
    """
    waiting = dict.fromkeys(first.layers)
    outputs = dict(second.run(images))
    for layer, values in first.run(images):
        waiting.pop(layer, None)
        if layer not in outputs:
            yield Difference(layer, problem="the second artifact has no such layer")
            continue
        yield _compared(layer, values, outputs.pop(layer))
    for layer in waiting:
        yield Difference(layer, problem="the first artifact did not run it")
    for layer in outputs:
        yield Difference(layer, problem="the first artifact has no such layer")


def _compared(layer: str, first: Array, second: Array) -> Difference:
    if first.shape != second.shape:
        return Difference(layer, problem=f"shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return Difference(layer, problem="NaN or infinity")
    distance = np.abs(first.astype(np.float64) - second)
    worst = tuple(int(i) for i in np.unravel_index(int(distance.argmax()), distance.shape))
    largest = float(np.abs(first).max())
    error = float(distance[worst])
    relative = error / largest if largest else (0.0 if error == 0 else float("inf"))
    return Difference(layer, relative, worst, float(first[worst]), float(second[worst]))
