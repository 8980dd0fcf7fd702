"""Builds the Keras model that a spec and its weights are."""

from __future__ import annotations

from collections.abc import Mapping

from converters.checkpoint import Array
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec

__all__ = ["build"]


def build(spec: NetVLADSpec, arrays: Mapping[str, Array]) -> NetVLADModel:
    """A model with every weight assigned, by canonical name.

    Raises `netvlad_keras.weights.WeightsError` before anything is assigned.
    """
    model = NetVLADModel(spec, zeros=True)
    model.assign(arrays)
    return model
