"""A layer tried in another way than the source has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from converters.checkpoint import Checkpoint, Layer
from verify.capture import Array
from verify.oracle import replay

__all__ = ["Attempt", "Attempts", "changed", "weighed"]

#: What the layer gives on these inputs.
Attempt = Callable[[Checkpoint, Sequence[Array]], Array]
#: Each with the words for it.
Attempts = Iterator[tuple[str, Attempt]]


def changed(layer: Layer, kind: str = "", **options: object) -> Attempt:
    """The layer with other options."""

    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        other = replace(layer, kind=kind or layer.kind, options={**layer.options, **options})
        layers = tuple(other if each.name == layer.name else each for each in checkpoint.layers)
        wide = [np.asarray(values, np.float64) for values in inputs]
        return replay(replace(checkpoint, layers=layers), layer.name, wide)

    return attempt


def weighed(layer: Layer, tensor: str, change: Callable[[Array], Array]) -> Attempt:
    """The layer with one of its weights changed."""

    def attempt(checkpoint: Checkpoint, inputs: Sequence[Array]) -> Array:
        own = {**checkpoint.tensors, tensor: change(checkpoint.tensors[tensor])}
        wide = [np.asarray(values, np.float64) for values in inputs]
        return replay(replace(checkpoint, tensors=own), layer.name, wide)

    return attempt
