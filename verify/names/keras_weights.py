"""Keras 3's `.weights.h5`: a layer's weights are numbered in the order in which it made them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ORDER", "USUAL"]

#: (layer, how many weights it has) -> their names.
ORDER: Mapping[tuple[str, int], tuple[str, ...]] = {
    ("input", 1): ("mean",),
    ("vlad:core", 2): ("assignment", "centers"),
    ("vlad:core", 3): ("assignment", "bias", "centers"),
}
#: The same for all other layers, which are convolutions and the whitening.
USUAL: Mapping[int, tuple[str, ...]] = {1: ("kernel",), 2: ("kernel", "bias")}
