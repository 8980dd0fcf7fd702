"""Which of a model's layers an artifact that is only run has: `computing`."""

from __future__ import annotations

from typing import Any

import keras

from netvlad_keras.spec import source_name

__all__ = ["computing"]


def computing(model: Any) -> list[Any]:
    """The layers that compute something, in their order: no inputs, and no dropout."""
    kinds = dict(model.spec.layers)
    return [
        layer
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
        and kinds.get(source_name(layer.name)) != "dropout"
    ]
