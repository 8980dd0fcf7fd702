"""Whitening, beside scikit-learn's and an eigenvalue decomposition."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from netvlad_keras import whitening
from netvlad_keras.errors import TrainingError
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec

Array = NDArray[Any]


def _points(count: int = 60, width: int = 9) -> Array:
    rng = np.random.default_rng(1)
    return np.asarray(rng.normal(size=(count, width)) * np.linspace(9, 3, width) + 5)


def _same_up_to_sign(found: Array, expected: Array, atol: float) -> None:
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=atol)


@pytest.mark.parametrize(
    ("points", "dimension", "message"),
    [
        (_points(5), 5, "5 descriptors of 9 numbers do not give 5"),
        (_points(), 10, "do not give 10"),
        (_points(), 0, "do not give 0"),
        (_points()[0], 1, r"\(9,\)"),
        (np.full((60, 9), np.inf), 3, "finite"),
    ],
)
def test_what_cannot_be_whitened(points: Array, dimension: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        whitening.projection(points, dimension)


@pytest.mark.parametrize(("count", "dimension"), [(60, 9), (60, 4), (8, 7)])
def test_it_is_scikit_learns(count: int, dimension: int) -> None:
    points = _points(count)
    kernel, bias = whitening.projection(points, dimension)
    pca = PCA(dimension, whiten=True, svd_solver="full")
    _same_up_to_sign(points @ kernel + bias, pca.fit_transform(points), 1e-9)


@pytest.mark.parametrize(("given", "epsilon"), [({}, 1e-9), ({"epsilon": 2.0}, 2.0)])
def test_it_is_the_originals_formula(given: dict[str, float], epsilon: float) -> None:
    """U · diag(1/sqrt(λ + 1e-9)) of the covariance's eigenvectors; the bias is -Uᵀμ."""
    points = _points()
    kernel, bias = whitening.projection(points, 4, **given)
    variances, vectors = np.linalg.eigh(np.cov(points.T))
    expected = (vectors / np.sqrt(variances + epsilon))[:, ::-1][:, :4]
    _same_up_to_sign(kernel, expected, 1e-12)
    np.testing.assert_allclose(bias, -kernel.T @ points.mean(axis=0), atol=1e-12)


def _images(count: int) -> Array:
    return np.random.default_rng(3).integers(0, 256, (count, 12, 12, 3)).astype(np.uint8)


def test_a_netvlad_becomes_white() -> None:
    keras.utils.set_random_seed(4)
    name = "mini_offtheshelf_conv2_1_vladv2_preL2_intra"
    model = NetVLADModel(NetVLADSpec.from_name(name))
    descriptors = model.predict(_images(12), verbose=0)
    white = whitening.fit(model, descriptors, 6)
    assert white.spec.name == f"{name}_white"
    assert (white.spec.whitening, white.spec.dimension) == (6, 6)
    kernel, bias = whitening.projection(descriptors, 6)
    expected = descriptors @ kernel + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(white.predict(_images(12), verbose=0), expected, atol=2e-4)
    with pytest.raises(TrainingError, match="already"):
        whitening.fit(white, descriptors, 3)


def test_no_more_than_asked_for_are_looked_at() -> None:
    model = keras.Sequential([keras.Input((9,)), keras.layers.Identity()])
    points = _points(60)
    few = whitening.fit(model, points, 3, most=20, seed=5)
    drawn = np.sort(np.random.default_rng(5).choice(60, 20, replace=False))
    kernel, _ = whitening.projection(points[drawn], 3)
    np.testing.assert_allclose(few.get_layer("WPCA").get_weights()[0], kernel, rtol=1e-5)


def test_any_model_gets_the_two_layers() -> None:
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(9)])
    inputs = np.random.default_rng(6).normal(size=(30, 5)).astype(np.float32)
    descriptors = model.predict(inputs, verbose=0)
    white = whitening.fit(model, descriptors, 4)
    kernel, bias = whitening.projection(descriptors, 4)
    expected = descriptors @ kernel + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(white.predict(inputs, verbose=0), expected, atol=1e-5)
    assert [layer.name for layer in white.layers[-2:]] == ["WPCA", "finalL2"]
