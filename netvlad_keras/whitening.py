"""Whitening: `WPCA` and `finalL2`, learnt from descriptors and put behind a net.

NetVLAD's addPCA.m: y = L2(diag(1/sqrt(λ + 1e-9)) Uᵀ (x − μ)), on at most 10,000 descriptors of
the training database.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from netvlad_keras.errors import TrainingError
from netvlad_keras.layers import WholeL2Normalization
from netvlad_keras.model import NetVLADModel

__all__ = ["DIMENSION", "EPSILON", "MOST", "check", "fit", "projection"]

Array = NDArray[Any]

DIMENSION = 4096
#: Descriptors that are looked at.
MOST = 10_000
#: Added to the variances.
EPSILON = 1e-9


def check(count: int, length: int, dimension: int) -> None:
    """Raise `TrainingError` if so many descriptors of this length do not give `dimension`."""
    if not 1 <= dimension <= min(count - 1, length):
        raise TrainingError(
            f"{count} descriptors of {length} numbers do not give {dimension} dimensions",
            advice="More images, or fewer dimensions: at least one image more than dimensions.",
        )


def projection(
    descriptors: Array, dimension: int = DIMENSION, *, epsilon: float = EPSILON
) -> tuple[Array, Array]:
    """Kernel [D, dimension] and bias [dimension] of the whitening, in float64.

    x @ kernel + bias has the mean 0 and the covariance 1 over `descriptors` [N, D]; the first
    components are those along which they vary most; `epsilon`, added to each variance, keeps
    those that hardly vary from growing without bound. Raises `TrainingError`.
    """
    points = np.asarray(descriptors, np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise TrainingError(f"descriptors are {points.shape}; finite [N, D] are needed")
    check(len(points), points.shape[1], dimension)
    pca = PCA(dimension, svd_solver="full").fit(points)
    kernel = pca.components_.T / np.sqrt(pca.explained_variance_ + epsilon)
    return kernel, -pca.mean_ @ kernel


def fit(
    model: keras.Model,
    descriptors: Array,
    dimension: int = DIMENSION,
    *,
    most: int = MOST,
    epsilon: float = EPSILON,
    seed: int = 43,
) -> keras.Model:
    """The model with whitening behind it, learnt from its own descriptors [N, D].

    Of more than `most` descriptors, `most` are drawn. A `NetVLADModel` becomes that of the
    published name with `_white`; any other model gets the same two layers. The weights are
    copies. Raises `TrainingError`.
    """
    descriptors = np.asarray(descriptors)
    if len(descriptors) > most:
        drawn = np.random.default_rng(seed).choice(len(descriptors), most, replace=False)
        descriptors = descriptors[np.sort(drawn)]
    kernel, bias = projection(descriptors, dimension, epsilon=epsilon)
    if not isinstance(model, NetVLADModel):
        return _appended(model, kernel, bias)
    spec = model.spec
    if spec.whitening:
        raise TrainingError("the model has a whitening already")
    name = f"{spec.name}_white" if spec.name else ""
    white = NetVLADModel(replace(spec, whitening=dimension, name=name), zeros=True)
    own = {name: keras.ops.convert_to_numpy(v) for name, v in model.canonical_weights.items()}
    white.assign({**own, "WPCA/kernel": kernel, "WPCA/bias": bias})
    return white


def _appended(model: keras.Model, kernel: Array, bias: Array) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    dense = keras.layers.Dense(kernel.shape[1], name="WPCA")
    outputs = WholeL2Normalization(name="finalL2")(dense(copy.outputs[0]))
    dense.set_weights([kernel, bias])
    return keras.Model(copy.inputs, outputs, name=model.name)
