"""NetVLAD for Keras 3: `from netvlad_keras import NetVLADModel`.

Importing the package itself costs nothing; Keras is imported, and the layers
are registered with it, when the model is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netvlad_keras.errors import ImageShapeError, WeightsError
    from netvlad_keras.layers import NetVLAD
    from netvlad_keras.model import NetVLADModel
    from netvlad_keras.preprocess import load_image
    from netvlad_keras.spec import NetVLADSpec

__all__ = [
    "ImageShapeError",
    "NetVLAD",
    "NetVLADModel",
    "NetVLADSpec",
    "WeightsError",
    "load_image",
]

_HOMES = {
    "ImageShapeError": "errors",
    "NetVLAD": "layers",
    "NetVLADModel": "model",
    "NetVLADSpec": "spec",
    "WeightsError": "errors",
    "load_image": "preprocess",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'netvlad_keras' has no attribute {name!r}")
    return getattr(import_module(f"netvlad_keras.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
