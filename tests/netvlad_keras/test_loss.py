"""The loss and its gradient, and those of NetVLAD's layers, against hand and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from netvlad_keras.layers import L2Normalization, NetVLAD, WholeL2Normalization
from netvlad_keras.loss import NEGATIVE, POSITIVE, QUERY, TripletCount, TripletLoss
from netvlad_keras.mining import Tuple
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.tuples import Tuples

Array = NDArray[Any]

#: q, p, n1 (violates by .03), n2 (does not), n3 (violates by .18): d² .09, .16, .25, .01.
ROLES = np.array([[0, QUERY], [0, POSITIVE], [0, NEGATIVE], [0, NEGATIVE], [0, NEGATIVE]])
POINTS = np.array([[0, 0], [0.3, 0], [0.4, 0], [0, 0.5], [0.1, 0]])
#: By hand, for two active triplets: (n1 + n3) - 2p, 2(p - q), q - n1, nothing, q - n3.
GRADIENT = np.array([[-0.1, 0], [0.6, 0], [-0.4, 0], [0, 0], [-0.1, 0]])


def _loss(roles: Array, points: Array, **options: Any) -> tuple[float, Array]:
    """Value and gradient, in float64."""
    descriptors = tf.Variable(points, dtype="float64")
    with tf.GradientTape() as tape:
        value = TripletLoss(dtype="float64", **options)(roles, descriptors)
    return float(value), tf.convert_to_tensor(tape.gradient(value, descriptors)).numpy()


def test_a_tuple_by_hand() -> None:
    value, gradient = _loss(ROLES, POINTS)
    assert value == pytest.approx((0.03 + 0.18) / 2, abs=1e-15)
    np.testing.assert_allclose(gradient, GRADIENT, atol=1e-15)


def test_nothing_violates() -> None:
    value, gradient = _loss(ROLES[[0, 1, 3]], POINTS[[0, 1, 3]])
    assert value == 0
    assert not gradient.any()


def test_a_triplet_at_the_margin_is_not_active() -> None:
    points = np.array([[0.0, 0], [0.5, 0], [0, 0.75]])
    assert _loss(ROLES[:3], points, margin=0.3125)[0] == 0


def test_the_batch_is_divided_by_its_violating_triplets() -> None:
    """A second tuple with one violating negative: (0.03 + 0.18 + 0.06) / 3; any order."""
    roles = np.concatenate([ROLES, [[1, QUERY], [1, POSITIVE], [1, NEGATIVE]]])
    points = np.concatenate([POINTS, [[1, 1], [1, 1.2], [1, 0.4 + 0.6 - np.sqrt(0.08)]]])
    value, gradient = _loss(roles, points)
    assert value == pytest.approx((0.03 + 0.18 + 0.06) / 3, abs=1e-12)
    np.testing.assert_allclose(gradient[:5], GRADIENT * 2 / 3, atol=1e-12)
    order = np.random.default_rng(1).permutation(len(roles))
    shuffled, moved = _loss(roles[order], points[order])
    assert shuffled == pytest.approx(value, abs=1e-15)
    np.testing.assert_allclose(moved, gradient[order], atol=1e-15)


def test_the_count_over_batches() -> None:
    count = TripletCount()
    for _ in range(2):
        count.update_state(ROLES, POINTS)
    found = {name: float(value) for name, value in count.result().items()}
    assert found == pytest.approx({"active_triplets": 4, "summed_loss": 0.42}, abs=1e-6)


# Gradients.


def _numeric(function: Callable[[Array], float], at: Array, step: float = 1e-6) -> Array:
    """Central differences."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * step
            ends.append(function(moved))
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def test_the_loss_by_finite_differences() -> None:
    rng = np.random.default_rng(2)
    roles = np.array([[t, r] for t in range(2) for r in (0, 1, 2, 2, 2)])
    points = rng.normal(size=(10, 4)) * 0.3
    value, gradient = _loss(roles, points)
    assert value > 0
    numeric = _numeric(lambda at: _loss(roles, at)[0], points)
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)


def _layer(use_bias: bool) -> NetVLAD:
    rng = np.random.default_rng(3)
    layer = NetVLAD(3, use_bias=use_bias, dtype="float64")
    layer.build((None, None, None, 4))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def _gradients(layer: Any, x: Array, dzdy: Array) -> list[Array]:
    """Of Σ y · dzdy, by x and by each weight."""
    inputs = tf.Variable(x)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(inputs) * dzdy)
    wanted = [inputs, *(weight.value for weight in layer.weights)]
    return [np.asarray(gradient) for gradient in tape.gradient(value, wanted)]


@pytest.mark.parametrize("use_bias", [False, True], ids=["vlad", "vladv2"])
def test_netvlad_by_finite_differences(use_bias: bool) -> None:
    layer = _layer(use_bias)
    rng = np.random.default_rng(4)
    x, dzdy = rng.normal(size=(2, 2, 3, 4)), rng.normal(size=(2, 1, 3, 4))
    by_x, *by_weights = _gradients(layer, x, dzdy)

    def value(at: Array) -> float:
        return float(np.sum(np.asarray(layer(at)) * dzdy))

    np.testing.assert_allclose(by_x, _numeric(value, x), atol=1e-8)
    for weight, gradient in zip(layer.weights, by_weights, strict=True):
        start = np.asarray(weight)

        def with_weight(at: Array, weight: Any = weight) -> float:
            weight.assign(at)
            return value(x)

        numeric = _numeric(with_weight, start)
        weight.assign(start)
        np.testing.assert_allclose(gradient, numeric, atol=1e-8, err_msg=weight.name)


@pytest.mark.parametrize("use_bias", [False, True], ids=["vlad", "vladv2"])
def test_netvlad_by_the_originals_formulas(use_bias: bool) -> None:
    """layerVLAD.m and layerVLADv2.m, backward_: softmax, then both ways into x.

    Their last weight is minus the centres, and so is its gradient.
    """
    layer = _layer(use_bias)
    rng = np.random.default_rng(5)
    x, dzdy = rng.normal(size=(2, 2, 3, 4)), rng.normal(size=(2, 1, 3, 4))
    flat, dy = x.reshape(2, 6, 4), dzdy[:, 0]
    w, c = np.asarray(layer.assignment), -np.asarray(layer.centers)
    logits = flat @ w + (0.0 if layer.bias is None else np.asarray(layer.bias))
    a = np.exp(logits - logits.max(axis=2, keepdims=True))
    a /= a.sum(axis=2, keepdims=True)
    dzda = np.einsum("nkd,nikd->nik", dy, flat[:, :, None, :] + c.T)
    dzdp = a * (dzda - (a * dzda).sum(axis=2, keepdims=True))
    expected = [
        (dzdp @ w.T + a @ dy).reshape(x.shape),
        np.einsum("nid,nik->dk", flat, dzdp),
        *([dzdp.sum(axis=(0, 1))] if use_bias else []),
        -np.einsum("nkd,nk->dk", dy, a.sum(axis=1)),
    ]
    for found, value in zip(_gradients(layer, x, dzdy), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-12)


def test_whole_l2_by_the_originals_formula() -> None:
    """layerWholeL2Normalize.m: -x (x'dy) / |x|³ + dy / |x|."""
    rng = np.random.default_rng(6)
    x, dzdy = rng.normal(size=(3, 7)), rng.normal(size=(3, 7))
    (found,) = _gradients(WholeL2Normalization(dtype="float64"), x, dzdy)
    norm = np.linalg.norm(x, axis=1, keepdims=True) + 1e-12
    expected = -x * (x * dzdy).sum(axis=1, keepdims=True) / norm**3 + dzdy / norm
    np.testing.assert_allclose(found, expected, atol=1e-13)


# With Keras's own compile and fit.


def _batches() -> Tuples:
    rng = np.random.default_rng(7)
    database = rng.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    noise = rng.integers(-20, 21, database.shape)
    queries = np.clip(database.astype(int) + noise, 0, 255).astype(np.uint8)
    tuples = [Tuple(q, q, tuple(n for n in range(6) if n != q)) for q in range(6)]
    return Tuples([tuples[:3], tuples[3:]], database, queries)


def test_plain_compile_and_fit_with_any_backbone() -> None:
    keras.utils.set_random_seed(1)
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(images / 255.0)
    x = WholeL2Normalization()(NetVLAD(3)(L2Normalization()(x)))
    model = keras.Model(images, x)
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss=TripletLoss(margin=1.0))
    history = model.fit(_batches(), epochs=6, verbose=0, shuffle=False).history["loss"]
    assert history[-1] < history[0]


@pytest.fixture
def mixed() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


SMALL = NetVLADSpec.from_name("mini_offtheshelf_conv2_1_vladv2_preL2_intra_white")


@pytest.mark.usefixtures("mixed")
def test_under_mixed_float16_norms_softmax_and_loss_stay_float32() -> None:
    model = NetVLADModel(SMALL.cropped(8))
    types = {layer.name: (layer.compute_dtype, layer.variable_dtype) for layer in model.layers}
    precise = {"preL2", "vlad.3Acore", "vlad.3Aintranorm", "postL2", "finalL2"}
    for name in precise:
        assert types[name] == ("float32", "float32"), name
    assert types["conv1_1"] == types["WPCA"] == ("float16", "float32")
    model.compile(optimizer=keras.optimizers.SGD(1e-3), loss=TripletLoss(margin=2.0))
    assert model.outputs[0].dtype == "float32"
    descriptors = model.predict(np.zeros((2, 8, 8, 3), np.uint8), verbose=0)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-6)
    loss = TripletLoss()(ROLES, tf.constant(POINTS, tf.float16))
    assert loss.dtype == tf.float32
    (value,) = model.fit(_batches(), verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(value)


@pytest.mark.usefixtures("mixed")
def test_squares_beyond_float16_are_normalised() -> None:
    """conv5_3 of a photograph: 512 channels whose squares sum to more than 65,504."""
    features = tf.fill((1, 1, 1, 512), tf.constant(20, tf.float16))
    np.testing.assert_allclose(np.asarray(L2Normalization()(features)), 512**-0.5, rtol=1e-6)
