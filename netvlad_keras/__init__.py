"""NetVLAD, and any MatConvNet net, for Keras 3: `from netvlad_keras import NetVLADModel`.

Importing the package itself costs nothing; Keras is imported, and models and
layers are registered with it, when a model is first asked for. Where Keras is
already there, they are registered at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netvlad_keras.errors import (
        ImageShapeError,
        InputShapeError,
        NetError,
        NetVLADError,
        WeightsError,
    )
    from netvlad_keras.graph import MatConvNetModel
    from netvlad_keras.layers import L2Normalization, NetVLAD, WholeL2Normalization
    from netvlad_keras.loss import TripletLoss
    from netvlad_keras.model import NetVLADModel
    from netvlad_keras.net import NetSpec
    from netvlad_keras.preprocess import load_image
    from netvlad_keras.recipe import Recipe
    from netvlad_keras.spec import NetVLADSpec

__all__ = [
    "ImageShapeError",
    "InputShapeError",
    "L2Normalization",
    "MatConvNetModel",
    "NetError",
    "NetSpec",
    "NetVLAD",
    "NetVLADError",
    "NetVLADModel",
    "NetVLADSpec",
    "Recipe",
    "TripletLoss",
    "WeightsError",
    "WholeL2Normalization",
    "load_image",
]

_HOMES = {
    "ImageShapeError": "errors",
    "InputShapeError": "errors",
    "L2Normalization": "layers",
    "MatConvNetModel": "graph",
    "NetError": "errors",
    "NetSpec": "net",
    "NetVLAD": "layers",
    "NetVLADError": "errors",
    "NetVLADModel": "model",
    "NetVLADSpec": "spec",
    "Recipe": "recipe",
    "TripletLoss": "loss",
    "WeightsError": "errors",
    "WholeL2Normalization": "layers",
    "load_image": "preprocess",
}

_REGISTERED = ("model", "graph", "loss", "optimisation")


def _register() -> None:
    """Register models, layers, loss and optimizer with Keras: a file may hold any of them."""
    for module in _REGISTERED:
        import_module(f"netvlad_keras.{module}")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'netvlad_keras' has no attribute {name!r}")
    if _HOMES[name] in _REGISTERED:
        _register()
    return getattr(import_module(f"netvlad_keras.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if "keras" in sys.modules:
    _register()
