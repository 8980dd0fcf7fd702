"""`turned`: an array from one order of its axes to another, both written as letters."""

from __future__ import annotations

import numpy as np

from verify.capture import Array

__all__ = ["turned"]


def turned(array: Array, source: str, target: str) -> Array:
    """A view of `array`, whose axes are `source`, with the axes `target`: `"OIHW"` as `"HWIO"`.

    `1`, and a letter that `target` lacks, is an axis of size 1 and is dropped; one that only
    `target` has is added with size 1. Where `target` is one letter, every axis but one has size 1.
    Raises `ValueError` for an array that does not have these axes.
    """
    if len(source) != array.ndim:
        raise ValueError(f"has shape {array.shape}, not the axes {source}")
    if len(target) == 1:
        if array.size != max(array.shape, default=1):
            raise ValueError(f"has shape {array.shape}, not one axis {target}")
        return array.reshape(-1)
    dropped = [i for i, letter in enumerate(source) if letter == "1" or letter not in target]
    if any(array.shape[i] != 1 for i in dropped):
        raise ValueError(f"has shape {array.shape}; as {source} it cannot become {target}")
    kept = [letter for i, letter in enumerate(source) if i not in dropped]
    order = [kept.index(letter) for letter in target if letter in kept]
    places = tuple(slice(None) if letter in kept else np.newaxis for letter in target)
    return array.squeeze(tuple(dropped)).transpose(order)[places]
