"""An artifact's weights against the source's, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from verify.arithmetic import FLOAT32, Arithmetic
from verify.capture import RECORDED, Array, Runner
from verify.result import WeightResult

__all__ = ["bit_for_bit"]


def bit_for_bit(
    right: Mapping[str, Array], runner: Runner, arithmetic: Arithmetic = FLOAT32
) -> tuple[WeightResult, ...]:
    """Every tensor bit for bit, in the source's order; nothing for a capture, which has none.

    What `arithmetic` allows to be rounded must be rounded to nearest, once.
    """
    if runner.kind == RECORDED:
        return ()
    found = runner.weights()
    results = [_tensor(name, values, found.get(name), arithmetic) for name, values in right.items()]
    extra = [name for name in found if name not in right]
    return (
        *results,
        *(
            WeightResult(n, found[n].size, 0, problem="the source has no such tensor")
            for n in extra
        ),
    )


def _tensor(name: str, right: Array, found: Array | None, arithmetic: Arithmetic) -> WeightResult:
    if found is None:
        return WeightResult(name, right.size, 0, problem="is missing")
    if found.shape != right.shape:
        problem = f"has shape {found.shape}, the source {right.shape}"
        return WeightResult(name, right.size, 0, problem=problem)
    expected = arithmetic.stored(right, found)
    different = found != expected
    count = int(np.count_nonzero(different))
    if not count:
        return WeightResult(name, right.size, 0)
    distance = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    index = tuple(int(i) for i in np.unravel_index(int(distance.argmax()), distance.shape))
    largest = float(np.abs(expected).max())
    return WeightResult(
        name,
        right.size,
        count,
        float(distance[index]) / largest if largest else float("inf"),
        index,
        float(expected[index]),
        float(found[index]),
    )
