"""`.keras` and `.h5` files in Keras, on whichever backend it has.

Nothing of the file is executed: the net is built from its recorded spec by our own code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from netvlad_keras.engines import Array, Contract, Engine
from netvlad_keras.errors import ModelFileError, WeightsError
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.weights import opened

__all__ = ["load", "open"]


def open(path: Path) -> Engine:
    """A model of this project, or the `netvlad_weights.h5` of the first Keras port.

    Raises `ModelFileError`.
    """
    model = load(path)
    spec = model.spec
    model.jit_compile = False  # XLA would compile anew for each size of image
    contract = Contract(
        minimum=spec.minimum_size, dimension=spec.dimension, whitened=spec.whitening > 0
    )

    def run(images: Array) -> Array:
        return np.asarray(model.predict_on_batch(images))

    return Engine(contract, run)


def load(path: Path) -> NetVLADModel:
    """The same as a Keras model. Raises `ModelFileError`."""
    try:
        with opened(path) as file:
            layout, spec = file.layout, file.spec
        if layout == "keras 2.2":
            spec = NetVLADSpec()  # the one net of that port
        if not isinstance(spec, NetVLADSpec):
            raise ModelFileError(
                path, "does not say which NetVLAD it is", advice="A .keras file or model.h5 does."
            )
        model = NetVLADModel(spec, zeros=True)
        model.load_weights(path)
    except WeightsError as error:
        raise ModelFileError(path, f"holds no NetVLAD: {error}") from error
    return model
