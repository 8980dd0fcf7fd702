"""NetVLAD's cluster centres and its assignment, from a net's own local descriptors.

NetVLAD's getClusters.m and addLayers.m: k-means, and an assignment so sharp that the nearest
cluster weighs 100 times as much as the second, in the geometric mean.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from netvlad_keras.errors import TrainingError
from netvlad_keras.layers import NetVLAD
from netvlad_keras.tuples import Images

__all__ = ["RATIO", "check_initialised", "initialise", "is_initialised", "netvlad_layer", "sample"]

Array = NDArray[Any]

#: How much more the nearest cluster weighs than the second, in the geometric mean.
RATIO = 100.0


def netvlad_layer(model: keras.Model | NetVLAD) -> NetVLAD | None:
    """The NetVLAD layer of a model or of a model in it, `None` if there is none."""
    if isinstance(model, NetVLAD):
        return model
    found = (netvlad_layer(layer) for layer in getattr(model, "layers", ()))
    return next((layer for layer in found if layer is not None), None)


def is_initialised(layer: NetVLAD) -> bool:
    """Whether a layer's clusters are more than what it was built with: centres that are zero."""
    return bool(keras.ops.any(keras.ops.not_equal(layer.centers, 0)))


def check_initialised(model: keras.Model) -> None:
    """Raise `TrainingError` if a model's NetVLAD layer is as it was built."""
    layer = netvlad_layer(model)
    if layer is not None and not is_initialised(layer):
        raise TrainingError(
            "the clusters of the NetVLAD layer were never initialised",
            advice="clusters.initialise(model, clusters.sample(model, images)), or "
            "netvlad-train --clusters.",
        )


def sample(
    model: keras.Model,
    images: Images,
    *,
    count: int = 50_000,
    per_image: int = 100,
    seed: int = 43,
) -> NDArray[np.float32]:
    """What the NetVLAD layer of a model is given, at random places of random images: [N, D].

    As many images are taken as `count` needs with `per_image` of each, or all there are.
    Raises `TrainingError` for a model without NetVLAD and for images that it does not take.
    """
    layer = netvlad_layer(model)
    if layer is None:
        raise TrainingError("the model has no NetVLAD layer: no clusters to initialise")
    if layer not in model.layers:
        raise TrainingError(
            "the NetVLAD layer lies in a model within the model",
            advice="Give that inner model, and images as it is given them.",
        )
    features = keras.Model(model.inputs, layer.input)
    random = np.random.default_rng(seed)
    wanted = min(len(images), math.ceil(count / per_image))
    found = []
    for index in random.permutation(len(images))[:wanted]:
        image = np.asarray(images[int(index)])
        try:
            local = np.asarray(features.predict_on_batch(image[None]))
        except ValueError as error:
            size = "×".join(map(str, image.shape[:2]))
            raise TrainingError(f"the model does not take images of {size} pixels") from error
        local = local.reshape(-1, local.shape[-1])
        found.append(local[random.permutation(len(local))[:per_image]])
    return np.concatenate(found).astype(np.float32)[:count]


def initialise(
    model: keras.Model | NetVLAD,
    descriptors: Array,
    *,
    ratio: float = RATIO,
    iterations: int = 100,
    seed: int = 43,
) -> float:
    """Set the clusters of a NetVLAD layer from local descriptors [N, D]. Returns alpha.

    With alpha, the geometric mean over `descriptors` of the ratio of the largest assignment to
    the second is `ratio`, for both variants: without a bias (`vlad`: alpha · unit centres) and with
    one (`vladv2`: 2·alpha·centres, −alpha·|centres|²). Raises `TrainingError`.
    """
    layer = netvlad_layer(model)
    if layer is None or not layer.built:
        raise TrainingError("no NetVLAD layer that is built: call the model on an image first")
    points = np.asarray(descriptors, np.float64)
    depth, clusters = layer.assignment.shape
    if points.ndim != 2 or points.shape[1] != depth or not np.isfinite(points).all():
        raise TrainingError(f"descriptors are {points.shape}; finite [N, {depth}] are needed")
    if len(np.unique(points, axis=0)) < clusters:
        raise TrainingError(f"fewer than {clusters} different descriptors: no {clusters} clusters")
    with threadpool_limits(1):  # sums by several threads have no fixed order
        kmeans = KMeans(clusters, n_init=1, max_iter=iterations, random_state=seed).fit(points)
    centers = kmeans.cluster_centers_.T
    if layer.bias is None:
        unit = centers / np.maximum(np.linalg.norm(centers, axis=0), 1e-12)
        alpha = _alpha(points @ unit, ratio)
        layer.assignment.assign(alpha * unit)
    else:
        lengths = np.square(centers).sum(axis=0)
        alpha = _alpha(2 * points @ centers - lengths, ratio)  # |x|² is the same for all clusters
        layer.assignment.assign(2 * alpha * centers)
        layer.bias.assign(-alpha * lengths)
    layer.centers.assign(centers)
    return alpha


def _alpha(closeness: Array, ratio: float) -> float:
    """How much a closeness [N, K], larger for nearer clusters, is to be multiplied by."""
    best = np.sort(closeness, axis=1)[:, -2:]
    gap = float((best[:, 1] - best[:, 0]).mean())
    if not gap > 0:
        raise TrainingError("all descriptors are as near to a second cluster as to the first")
    return math.log(ratio) / gap
