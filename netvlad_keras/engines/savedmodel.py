"""SavedModels in TensorFlow. A SavedModel is a program: it can do what this process can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from netvlad_keras.engines import Array, Contract, Engine
from netvlad_keras.errors import ModelFileError

__all__ = ["open"]


def open(path: Path) -> Engine:
    """A SavedModel whose signature `serving_default` takes images and gives one vector each.

    Whether descriptors are whitened is known where there is a signature `layers`, as in this
    project's. Raises `ModelFileError`.
    """
    try:
        loaded = tf.saved_model.load(str(path))
        signatures = loaded.signatures
        serve = signatures["serving_default"]
    except Exception as error:  # TensorFlow has no type for a broken folder
        raise ModelFileError(path, f"TensorFlow does not serve it: {error}") from error
    taken = serve.structured_input_signature[1]
    given = serve.structured_outputs
    if len(taken) != 1 or len(given) != 1:
        raise ModelFileError(path, f"is not a model of an image and its vector: {taken} {given}")
    ((name, spec),), ((out, vector),) = taken.items(), given.items()
    contract = _contract(path, spec, vector, signatures)

    def run(images: Array, keep: Any = loaded) -> Array:  # its variables go where it goes
        return np.asarray(serve(**{name: tf.constant(images)})[out])

    return Engine(contract, run)


def _contract(path: Path, taken: Any, given: Any, signatures: Any) -> Contract:
    sizes = taken.shape.as_list() if taken.shape.rank == 4 else []
    dtype = taken.dtype.name
    if 3 not in (sizes[1:2] + sizes[3:]) or dtype not in ("float32", "float16", "uint8"):
        raise ModelFileError(path, f"takes {dtype} {taken.shape}, not images in RGB")
    if given.shape.rank != 2:
        raise ModelFileError(path, f"gives {given.shape}, not a vector for each image")
    layout = "NHWC" if sizes[3] == 3 else "NCHW"
    height, width = sizes[1:3] if layout == "NHWC" else sizes[2:4]
    layers = signatures["layers"].structured_outputs if "layers" in signatures else None
    return Contract(
        layout=layout,
        dtype=dtype,
        batch=sizes[0],
        size=(height, width),
        dimension=given.shape[1],
        whitened=None if layers is None else "WPCA" in layers,
    )
