"""Clusters and alpha."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from netvlad_keras import clusters
from netvlad_keras.errors import TrainingError
from netvlad_keras.layers import NetVLAD
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec

Array = NDArray[Any]


def _descriptors(count: int = 400, width: int = 8) -> Array:
    points = np.random.default_rng(1).normal(size=(count, width))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _numbers(variable: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def _layer(use_bias: bool = False, number: int = 5) -> NetVLAD:
    layer = NetVLAD(number, use_bias=use_bias)
    layer.build((None, None, None, 8))
    return layer


def _model(method: str = "vlad_preL2_intra") -> NetVLADModel:
    keras.utils.set_random_seed(2)
    return NetVLADModel(NetVLADSpec.from_name(f"mini_offtheshelf_conv2_1_{method}"))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (_descriptors(width=7), r"\(400, 7\)"),
        (_descriptors()[0], r"\(8,\)"),
        (np.full((400, 8), np.nan), "finite"),
        (np.repeat(_descriptors(4), 100, axis=0), "fewer than 5 different"),
    ],
)
def test_descriptors_that_give_no_clusters(points: Array, message: str) -> None:
    layer = _layer()
    with pytest.raises(TrainingError, match=message):
        clusters.initialise(layer, points)
    assert not clusters.is_initialised(layer)


def test_layers_that_take_no_clusters() -> None:
    with pytest.raises(TrainingError, match="built"):
        clusters.initialise(NetVLAD(5), _descriptors())
    with pytest.raises(TrainingError, match="no NetVLAD"):
        clusters.sample(_model("max"), np.zeros((1, 16, 16, 3)))


@pytest.mark.parametrize(("given", "ratio"), [({}, 100), ({"ratio": 7.0}, 7)])
@pytest.mark.parametrize("use_bias", [False, True], ids=["vlad", "vladv2"])
def test_the_geometric_mean_of_first_over_second_is_100(
    use_bias: bool, given: dict[str, float], ratio: float
) -> None:
    points = _descriptors()
    layer = _layer(use_bias)
    clusters.initialise(layer, points, **given)  # type: ignore[arg-type]
    logits = points @ _numbers(layer.assignment)
    if use_bias:
        logits = logits + _numbers(layer.bias)
    best = np.sort(logits, axis=1)
    ratios = best[:, -1] - best[:, -2]
    assert np.exp(ratios.mean()) == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("use_bias", [False, True], ids=["vlad", "vladv2"])
def test_assignment_and_centres(use_bias: bool) -> None:
    points = _descriptors()
    layer = _layer(use_bias)
    alpha = clusters.initialise(layer, points, seed=3)
    centers = KMeans(5, n_init=1, max_iter=100, random_state=3).fit(points).cluster_centers_.T
    np.testing.assert_allclose(_numbers(layer.centers), centers, atol=1e-6)
    if use_bias:
        np.testing.assert_allclose(_numbers(layer.assignment), 2 * alpha * centers, rtol=1e-5)
        lengths = (centers**2).sum(axis=0)
        np.testing.assert_allclose(_numbers(layer.bias), -alpha * lengths, rtol=1e-5)
        # the nearest centre has the largest assignment
        nearest = ((points[:, :, None] - centers) ** 2).sum(axis=1).argmin(axis=1)
        logits = points @ _numbers(layer.assignment) + _numbers(layer.bias)
        assert (logits.argmax(axis=1) == nearest).all()
    else:
        unit = centers / np.linalg.norm(centers, axis=0)
        np.testing.assert_allclose(_numbers(layer.assignment), alpha * unit, rtol=1e-5)


def test_a_layer_knows_whether_it_has_clusters(tmp_path: Any) -> None:
    model = _model()
    layer = clusters.netvlad_layer(model)
    assert layer is model.get_layer("vlad.3Acore")
    assert not clusters.is_initialised(layer)
    model.save(tmp_path / "fresh.keras")
    fresh = clusters.netvlad_layer(keras.saving.load_model(tmp_path / "fresh.keras"))
    assert fresh is not None
    assert not clusters.is_initialised(fresh)
    images = np.random.default_rng(4).integers(0, 256, (6, 24, 24, 3)).astype(np.uint8)
    clusters.initialise(model, clusters.sample(model, images))
    model.save(tmp_path / "model.keras")
    loaded = clusters.netvlad_layer(keras.saving.load_model(tmp_path / "model.keras"))
    assert loaded is not None
    assert clusters.is_initialised(loaded)


def test_the_sample_is_what_the_layer_is_given() -> None:
    model = _model()
    images = np.random.default_rng(4).integers(0, 256, (7, 16, 16, 3)).astype(np.uint8)
    found = clusters.sample(model, images, count=50, per_image=10)
    assert found.shape == (50, 8)  # of 5 images, 10 of the 64 places each
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    whole = keras.Model(model.inputs, model.get_layer("preL2").output).predict(images, verbose=0)
    distances = np.abs(whole.reshape(-1, 1, 8) - found).max(axis=2)
    assert distances.min(axis=0).max() < 1e-6
    images_used = set(distances.argmin(axis=0) // 64)
    assert len(images_used) == 5
    np.testing.assert_array_equal(clusters.sample(model, images, count=50, per_image=10), found)
    assert clusters.sample(model, images).shape == (7 * 64, 8)
