"""Builds the Keras model that a spec and its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from converters.checkpoint import Array
from converters.handoff import Spec
from netvlad_keras.graph import MatConvNetModel
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec

__all__ = ["build"]

#: What TensorFlow's kernels ask of a tensor's address, in bytes.
_ALIGNMENT = 64


def build(spec: Spec, arrays: Mapping[str, Array]) -> Any:
    """A `NetVLADModel`, or of any other net a `MatConvNetModel`, with every weight assigned.

    Arrays that are writable float32 in C order, as `handoff.load` gives them,
    are not copied: the model's variables live in them. Raises
    `netvlad_keras.weights.WeightsError` before anything is assigned.
    """
    model: NetVLADModel | MatConvNetModel
    if isinstance(spec, NetVLADSpec):
        model = NetVLADModel(spec, zeros=True)
    else:
        model = MatConvNetModel(spec, zeros=True)
    model.assign({name: _lent(array) for name, array in arrays.items()})
    return model


def _lent(array: Array) -> Any:
    """A tensor on the array's own memory, where TensorFlow can use that; else the array.

    Assigned as it is, an array would be held three times for a moment.
    """
    flags = array.flags
    usable = array.dtype == np.float32 and flags.c_contiguous and flags.writeable
    if not usable or array.ctypes.data % _ALIGNMENT:
        return array
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
