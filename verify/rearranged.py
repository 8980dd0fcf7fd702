"""What was done to a layer's right output: hypotheses on its values alone.

Each is a row of a literal table; the first that gives the values that were found is the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from verify.capture import Array

__all__ = ["Outcome", "rearranged"]

#: Of the largest value: far above what float32 costs, far below what a fault does.
_CLOSE = 1e-5


@dataclass(frozen=True, slots=True)
class Outcome:
    """A layer alone: what it was fed with, what it should give, what it gave."""

    inputs: Sequence[Array]
    right: Array
    found: Array

    def is_given_by(self, expected: Array) -> bool:
        """Whether these are the values that were found, but for rounding, and the right ones
        are further from them. Nothing can be said of zeros.
        """
        if expected.shape != self.found.shape or not expected.size:
            return False
        near = _CLOSE * float(np.abs(expected).max())
        if self.right.shape == self.found.shape:
            near = min(near, 0.5 * float(np.abs(self.found - self.right).max()))
        return near > 0 and float(np.abs(self.found - expected).max()) <= near


def rearranged(outcome: Outcome) -> str:
    """The cause in words, or `""` if none of the hypotheses gives the values that were found."""
    for hypothesis in _HYPOTHESES:
        if cause := hypothesis(outcome):
            return cause
    return ""


def _untouched(o: Outcome) -> str:
    passed_on = any(o.is_given_by(np.asarray(x, np.float64)) for x in o.inputs)
    return "what it reads is passed on as it is" if passed_on else ""


def _sign(o: Outcome) -> str:
    return "the sign of all values" if o.is_given_by(-o.right) else ""


def _turned(o: Outcome) -> str:
    if o.right.ndim == 4 and o.is_given_by(o.right.transpose(0, 2, 1, 3)):
        return "height and width swapped"
    return ""


def _fastest(o: Outcome) -> str:
    """VLAD's vector runs K fastest; a port had k·D + d."""
    shapes = [values.shape for values in (o.right, *o.inputs) if values.ndim == 4]
    for _, single, clusters, width in shapes:
        if single != 1 or o.right[0].size != clusters * width:
            continue
        sizes = (clusters, width) if o.right.ndim == 4 else (width, clusters)
        matrices = o.right.reshape(len(o.right), *sizes)
        if o.is_given_by(matrices.transpose(0, 2, 1).reshape(o.right.shape)):
            return "the cluster order: D fastest where the source has K fastest"
    return ""


def _permuted(o: Outcome) -> str:
    """Every channel is there, at another place: found by a sum over each with random weights."""
    if o.right.shape != o.found.shape or o.right.ndim < 2:
        return ""
    right, found = (values.reshape(-1, values.shape[-1]) for values in (o.right, o.found))
    some = np.random.RandomState(1).uniform(0.5, 1.5, len(right))
    before, now = np.argsort(some @ right, kind="stable"), np.argsort(some @ found, kind="stable")
    place = np.empty_like(before)
    place[now] = before
    moved = np.flatnonzero((right != right[:, place]).any(axis=0))
    if not len(moved) or not o.is_given_by(right[:, place].reshape(o.right.shape)):
        return ""
    return f"outputs swapped: {', '.join(map(str, moved[:6]))}"


def _scaled(o: Outcome) -> str:
    energy = float(np.vdot(o.right, o.right))
    if o.right.shape != o.found.shape or not energy:
        return ""
    factor = float(np.vdot(o.right, o.found)) / energy
    if factor > 0 and abs(factor - 1) > _CLOSE and o.is_given_by(factor * o.right):
        return f"a scale of {factor:.6g}"
    return ""


def _cut(o: Outcome) -> str:
    top = float(o.found.max()) if o.found.size else 0.0
    if top > 0 and o.is_given_by(np.minimum(o.right, top)):
        return f"values cut off at {top:.6g}"
    return ""


_HYPOTHESES: tuple[Callable[[Outcome], str], ...] = (
    _untouched,
    _sign,
    _turned,
    _fastest,
    _permuted,
    _scaled,
    _cut,
)
