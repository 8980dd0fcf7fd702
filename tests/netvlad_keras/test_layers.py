"""Every registered layer against float64 NumPy, near zero too, and its configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from netvlad_keras.layers import (  # noqa: E402
    Convolution,
    CrossChannelNormalization,
    L2Normalization,
    MaxPooling,
    MeanSubtraction,
    NetVLAD,
    TotalPooling,
    WholeL2Normalization,
)

pytestmark = pytest.mark.torch  # they hold on either backend

Array = NDArray[Any]
RNG = np.random.default_rng(11)


def _normal(*shape: int, scale: float = 1.0) -> Array:
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def _out(layer: Any, x: Array) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(layer(x)))


def _close(found: Array, expected: Array, relative: float = 2e-6) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


# --- what is refused ---


@pytest.mark.parametrize("method", ["sum", "", "MAX"])
def test_total_pooling_knows_two_methods(method: str) -> None:
    with pytest.raises(ValueError, match="max or avg"):
        TotalPooling(method)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="groups"):
        Convolution(4, (1, 1), groups=2).build((None, None, None, 3))


# --- windows ---

# kernel, strides, pads (top, bottom, left, right), groups, dilation
CONVOLUTIONS = [
    ((3, 3), (1, 1), (1, 1, 1, 1), 1, (1, 1)),
    ((3, 3), (1, 1), (0, 0, 0, 0), 1, (1, 1)),
    ((11, 11), (4, 4), (0, 0, 0, 0), 1, (1, 1)),
    ((5, 5), (1, 1), (2, 2, 2, 2), 2, (1, 1)),
    ((3, 2), (1, 1), (2, 0, 0, 1), 4, (1, 1)),
    ((2, 4), (1, 1), (0, 1, 1, 2), 1, (1, 1)),  # what Keras calls same, even kernels
    ((2, 4), (1, 1), (1, 0, 2, 1), 1, (1, 1)),  # the other way round
    ((3, 3), (1, 1), (2, 2, 2, 2), 1, (2, 2)),
    ((3, 2), (1, 1), (1, 3, 0, 2), 2, (2, 3)),
    ((2, 2), (1, 1), (1, 1, 0, 1), 1, (2, 1)),
    ((3, 3), (2, 3), (1, 0, 0, 2), 2, (1, 1)),
    ((1, 1), (1, 1), (0, 0, 0, 0), 8, (1, 1)),
    ((1, 1), (2, 2), (0, 0, 0, 0), 1, (1, 1)),
]


@pytest.mark.parametrize(("kernel", "strides", "pads", "groups", "dilation"), CONVOLUTIONS)
@pytest.mark.parametrize("size", [(15, 12), (12, 17)])
def test_convolution(
    reference: Any,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    groups: int,
    dilation: tuple[int, int],
    size: tuple[int, int],
) -> None:
    x = _normal(2, *size, 8)
    layer = Convolution(16, kernel, pads, strides=strides, groups=groups, dilation_rate=dilation)
    layer.build(x.shape)
    weights = [_normal(*kernel, 8 // groups, 16), _normal(16)]
    layer.set_weights(weights)
    expected = reference.conv(
        x, *weights, strides=strides, pads=pads, groups=groups, dilation=dilation
    )
    found = _out(layer, x)
    _close(found, expected)
    assert tuple(layer.compute_output_shape(x.shape)) == found.shape


@pytest.mark.parametrize(
    ("size", "strides", "pads"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (0, 1, 0, 1)),
        ((3, 3), (2, 2), (1, 0, 0, 2)),
        ((3, 2), (1, 3), (0, 0, 1, 1)),
        ((1, 1), (2, 1), (0, 0, 0, 0)),
    ],
)
@pytest.mark.parametrize("image", [(8, 8), (9, 7), (7, 10)])
def test_max_pooling(
    reference: Any,
    size: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    image: tuple[int, int],
) -> None:
    x = -np.abs(_normal(2, *image, 3)) - 1  # a pad of zeros would win
    layer = MaxPooling(size, strides, pads)
    found = _out(layer, x)
    np.testing.assert_array_equal(found, reference.max_pool(x, size, strides, pads))
    assert tuple(layer.compute_output_shape(x.shape)) == found.shape


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 8, 12, 15])
@pytest.mark.parametrize(
    ("kappa", "alpha", "beta"), [(1.0, 2e-5, 0.75), (2.0, 0.5, 0.75), (1.0, 1.0, 0.5)]
)
def test_cross_channel_normalization(
    reference: Any, window: int, kappa: float, alpha: float, beta: float
) -> None:
    x = _normal(2, 3, 2, 7, scale=5.0)
    layer = CrossChannelNormalization(window, kappa, alpha, beta)
    _close(_out(layer, x), reference.lrn(x, window, kappa, alpha, beta))
    assert layer.compute_output_shape((None, None, None, 7)) == (None, None, None, 7)


# --- the two L2 norms ---


@pytest.mark.parametrize("norm", [1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1.0, 1e4])
def test_the_l2_forms_differ_in_where_the_epsilon_stands(norm: float) -> None:
    x = np.asarray([[[[0.6, -0.8]]]]) * norm
    found = _out(L2Normalization(), x.astype(np.float32))
    np.testing.assert_allclose(found, x / np.sqrt(norm**2 + 1e-12), rtol=3e-6)
    found = _out(WholeL2Normalization(), x.astype(np.float32))
    np.testing.assert_allclose(found, x[:, 0, 0] / (norm + 1e-12), rtol=3e-6)


@pytest.mark.parametrize("norm", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("length", [512, 32768])
def test_near_zero_vectors_of_the_real_lengths(reference: Any, norm: float, length: int) -> None:
    x = _normal(2, length)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True) * norm).astype(np.float32)
    maps = x[:, None, None]
    _close(_out(L2Normalization(), maps), reference.l2(maps), 5e-6)
    _close(_out(WholeL2Normalization(), x), reference.whole_l2(x), 5e-6)


@pytest.mark.parametrize("layer", [L2Normalization, WholeL2Normalization])
def test_a_zero_vector_gives_zeros(layer: Any) -> None:
    assert not _out(layer(), np.zeros((2, 1, 3, 4), np.float32)).any()


def test_each_position_and_each_image_has_its_own_norm(reference: Any) -> None:
    x = _normal(3, 2, 5, 4) * np.asarray([1e-6, 1.0, 1e3], np.float32)[:, None, None, None]
    _close(_out(L2Normalization(), x), reference.l2(x))
    _close(_out(WholeL2Normalization(), x), reference.whole_l2(x))


def test_the_descriptor_runs_k_fastest() -> None:
    # V[k, d] = 10 d + k: element (k, d) lands at d·K + k
    clusters, channels = 3, 4
    v = np.asarray([[[[10 * d + k for d in range(channels)] for k in range(clusters)]]])
    found = _out(WholeL2Normalization(), v.astype(np.float32))
    expected = [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]
    np.testing.assert_allclose(found[0] * np.linalg.norm(expected), expected, rtol=1e-6)
    assert tuple(WholeL2Normalization().compute_output_shape((None, 1, 3, 4))) == (None, 12)


# --- pooling over all positions ---


def test_total_pooling() -> None:
    x = _normal(2, 5, 7, 3) - 9
    np.testing.assert_array_equal(_out(TotalPooling("max"), x), x.max(axis=(1, 2)))
    mean = x.astype(np.float64).mean(axis=(1, 2))
    _close(_out(TotalPooling("avg"), x), mean)
    assert tuple(TotalPooling("avg").compute_output_shape((None, None, None, 3))) == (None, 3)


def _vlad(assignment: Any, centers: Any, bias: Any = None) -> Any:
    weights = [np.asarray(w, np.float32) for w in (assignment, bias, centers) if w is not None]
    layer = NetVLAD(weights[0].shape[1], use_bias=bias is not None)
    layer.build((None, None, None, weights[0].shape[0]))
    layer.set_weights(weights)
    return layer


def test_vlad_by_hand() -> None:
    # Two pixels (1, 0) and (0, 2), clusters at (1, 0) and (0, 1). With w = ln 3 on the diagonal
    # the first is shared 3 : 1, the second 1 : 9.
    log3 = float(np.log(3.0))
    layer = _vlad([[log3, 0.0], [0.0, log3]], [[1.0, 0.0], [0.0, 1.0]])
    found = _out(layer, np.asarray([[[[1.0, 0.0], [0.0, 2.0]]]], np.float32))
    first = [0.75 * 0 + 0.1 * -1, 0.75 * 0 + 0.1 * 2]
    second = [0.25 * 1 + 0.9 * 0, 0.25 * -1 + 0.9 * 1]
    np.testing.assert_allclose(found, [[[first, second]]], atol=1e-6)


def test_vladv2_by_hand() -> None:
    # One pixel (2,) and no assignment but the bias: ln 4 against 0 is 4 : 1.
    layer = _vlad([[0.0, 0.0]], [[1.0, 4.0]], [float(np.log(4.0)), 0.0])
    found = _out(layer, np.full((1, 1, 1, 1), 2.0, np.float32))
    np.testing.assert_allclose(found, [[[[0.8 * 1.0], [0.2 * -2.0]]]], atol=1e-6)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (6, 8)])
def test_vlad(reference: Any, use_bias: bool, size: tuple[int, int]) -> None:
    x = _normal(2, *size, 7)
    assignment, centers = _normal(7, 4, scale=3.0), _normal(7, 4)
    bias = _normal(4) if use_bias else None
    found = _out(_vlad(assignment, centers, bias), x)
    expected = reference.vlad(x, assignment, centers, 0.0 if bias is None else bias)
    _close(found, expected, 5e-6)
    assert NetVLAD(4).compute_output_shape(x.shape) == found.shape


def test_vlad_with_the_alpha_of_a_trained_net(reference: Any) -> None:
    # logits of some hundreds would overflow exp
    x = _normal(1, 4, 4, 16)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    centers = _normal(16, 4)
    centers /= np.linalg.norm(centers, axis=0)
    found = _out(_vlad(240 * centers, centers), x)
    _close(found, reference.vlad(x, 240 * centers, centers), 5e-5)


def test_the_mean_is_subtracted_in_float_from_bytes() -> None:
    layer = MeanSubtraction([120.5, 0.0, 255.0])
    x = np.asarray([[[[0, 1, 2]]]], np.uint8)
    np.testing.assert_array_equal(_out(layer, x), [[[[-120.5, 1.0, -253.0]]]])
    assert layer.trainable_weights == []
    assert [weight.name for weight in layer.weights] == ["mean"]


# --- training ---


def _gradient(function: Any, x: Array) -> Array:
    """d sum(function(x)²) / dx, on the backend that is there."""
    if keras.backend.backend() == "torch":
        import torch

        tensor = torch.tensor(x, requires_grad=True)
        keras.ops.sum(keras.ops.square(function(tensor))).backward()
        return np.asarray(tensor.grad)
    import tensorflow as tf

    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = keras.ops.sum(keras.ops.square(function(tensor)))
    return np.asarray(tape.gradient(loss, tensor))


LAYERS: dict[str, Any] = {
    "mean": lambda: MeanSubtraction([1.0, 2.0, 3.0, 4.0]),
    "convolution": lambda: Convolution(4, (2, 3), (1, 0, 0, 2), strides=(2, 1), groups=2),
    "dilated": lambda: Convolution(4, (2, 2), dilation_rate=(2, 1), use_bias=False),
    "max_pooling": lambda: MaxPooling((3, 2), (2, 2), (0, 1, 0, 1)),
    "lrn": lambda: CrossChannelNormalization(4, 2.0, 0.5, 0.75),
    "l2": lambda: L2Normalization(),
    "l2_epsilon": lambda: L2Normalization(epsilon=0.25),
    "whole_l2": lambda: WholeL2Normalization(epsilon=0.5),
    "max": lambda: TotalPooling("max"),
    "avg": lambda: TotalPooling("avg"),
    "vlad": lambda: NetVLAD(3),
    "vladv2": lambda: NetVLAD(3, use_bias=True, initializer="he_normal"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("value", [0.0, 1e-9, 1.0])
def test_gradients_are_finite_near_zero_too(name: str, value: float) -> None:
    x = np.asarray(_normal(2, 5, 6, 4) * value, np.float32)
    assert np.isfinite(_gradient(LAYERS[name](), x)).all()


@pytest.mark.parametrize("layer", [L2Normalization, WholeL2Normalization])
def test_the_gradient_of_a_norm(layer: Any) -> None:
    x = np.asarray([[[[3.0, 4.0, 12.0]]]], np.float32)
    weights = np.asarray([1.0, -2.0, 0.5])
    along = keras.ops.convert_to_tensor(weights, "float32")
    found = _gradient(lambda t: keras.ops.sqrt(1e3 + keras.ops.sum(layer()(t) * along)), x)
    unit = x[0, 0, 0] / 13
    expected = (weights - unit * (unit @ weights)) / 13
    np.testing.assert_allclose(found[0, 0, 0], expected, rtol=2e-5)


# --- configuration ---


@pytest.fixture
def channels_first() -> Iterator[None]:
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_from_its_configuration(name: str) -> None:
    x = _normal(2, 5, 6, 4)
    layer = LAYERS[name]()
    expected = _out(layer, x)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["registered_name"] == f"netvlad_keras>{type(layer).__name__}"
    again = keras.saving.deserialize_keras_object(config)  # safe_mode, no custom_objects
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(_out(again, x), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_the_computed_shape_is_the_real_one(name: str) -> None:
    layer = LAYERS[name]()
    symbolic = layer(keras.Input((None, None, 4), name=f"{name}_any"))
    for height, width in [(5, 6), (7, 9), (8, 3)]:
        x = _normal(3, height, width, 4)
        found = _out(layer, x).shape
        assert tuple(layer.compute_output_shape(x.shape)) == found
        pairs = zip(symbolic.shape, found, strict=True)
        assert all(size in (None, real) for size, real in pairs)


@pytest.mark.usefixtures("channels_first")
def test_the_global_image_data_format_changes_nothing(reference: Any) -> None:
    x = _normal(1, 6, 7, 4)
    layer = Convolution(2, (3, 3), (1, 1, 1, 1), groups=2)
    layer.build(x.shape)
    weights = [_normal(3, 3, 2, 2), _normal(2)]
    layer.set_weights(weights)
    _close(_out(layer, x), reference.conv(x, *weights, pads=(1, 1, 1, 1), groups=2))
    pooled = _out(MaxPooling((2, 2), (2, 2)), x)
    np.testing.assert_array_equal(pooled, reference.max_pool(x, (2, 2), (2, 2), (0, 0, 0, 0)))
