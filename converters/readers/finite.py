"""NaN and infinity in tensors: a weight that is one of them is never carried."""

from __future__ import annotations

import numpy as np

from converters.checkpoint import Array

__all__ = ["not_finite"]


def not_finite(tensor: Array) -> str:
    """What is wrong, in words: how many, and the first index; "" if all is finite.

    Costs one pass without a temporary where nothing is wrong: a sum is finite
    only if every term is.
    """
    if tensor.dtype.kind != "f":
        return ""
    with np.errstate(all="ignore"):
        if np.isfinite(tensor.sum()):
            return ""
    wrong = ~np.isfinite(tensor)
    count = int(wrong.sum())
    if not count:
        return ""
    first = np.unravel_index(int(wrong.argmax()), wrong.shape)
    where = ", ".join(map(str, first))
    return f"{count} of {tensor.size} values are NaN or infinite, the first at [{where}]"
