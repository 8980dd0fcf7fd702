"""Each layer's function against hand-computed numbers and loops."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Array
from verify.operators import NETVLAD, OPERATORS, VECTORS

RANDOM = np.random.default_rng(8)

#: A layer's weights and settings by kind, for data of 4 channels.
SAMPLES: dict[str, tuple[list[tuple[int, ...]], dict[str, Any]]] = {
    "conv": ([(3, 3, 4, 2), (2,)], {"pad": (1, 1, 1, 1)}),
    "convt": ([(3, 3, 2, 4), (2,)], {"upsample": (2, 2)}),
    "conv+bnorm": ([(3, 3, 4, 2), (2,), (2,), (2,), (2, 2)], {"pad": (1, 1, 1, 1)}),
    "convt+bnorm": ([(3, 3, 2, 4), (2,), (2,), (2,), (2, 2)], {"upsample": (2, 2)}),
    "subtract": ([(5, 6, 4)], {}),
    "pool": ([], {"pool": (2, 2), "method": "avg", "pad": (0, 1, 0, 1)}),
    "relu": ([], {"leak": 0.1}),
    "normalize": ([], {"param": (3, 1.0, 2e-5, 0.75)}),
    "lrn": ([], {"param": (8, 1e-12, 1.0, 0.5)}),
    "bnorm": ([(4,), (4,), (4, 2)], {}),
    "softmax": ([], {}),
    "sigmoid": ([], {}),
    "dropout": ([], {}),
    "concat": ([], {}),
    "sum": ([], {}),
    "product": ([(2, 1, 1, 4)], {}),
    "Axpy": ([(2, 5, 6, 4), (2, 5, 6, 4)], {}),
    "scale": ([(1, 1, 4), (5, 6, 1)], {}),
    "crop": ([(2, 3, 4, 1)], {"crop": (1, 1)}),
    "flatten": ([], {}),
    "spnorm": ([], {"param": (2, 3, 10.0, 2.0)}),
    "normoffset": ([], {"param": (1.0, 0.5)}),
    "noffset": ([], {"param": (0.5, 0.3)}),
    "bilinearsampler": ([(4, 2, 3, 2)], {}),
    "affinegrid": ([], {"Ho": 3, "Wo": 4}),
    "UniformScalingGridGenerator": ([], {"Ho": 3, "Wo": 4}),
    "ROIPooling": ([(1, 5, 3, 1)], {"subdivisions": (2, 2), "method": "avg"}),
    "PDist": ([(2, 1, 1, 4)], {"aggregate": False}),
    "layerVLAD": ([(1, 1, 4, 3), (1, 1, 4, 3)], {}),
    "layerVLADv2": ([(1, 1, 4, 3), (3,), (1, 1, 4, 3)], {}),
    "layerWholeL2Normalize": ([], {}),
    "layerTotalMaxPool": ([], {}),
    "layerTotalAvgPool": ([], {}),
}

#: What else than 5×6 pixels of 4 channels a kind takes.
SHAPES = {"affinegrid": (2, 1, 1, 6), "UniformScalingGridGenerator": (2, 1, 1, 3)}
#: Kinds whose further arrays are inputs, so of the data's own precision.
MERGING = {"product", "Axpy", "crop", "bilinearsampler", "ROIPooling", "PDist"}


def pixel(*values: float) -> Array:
    return np.array(values).reshape(1, 1, 1, -1)


def operate(kind: str, *arrays: Array, **options: Any) -> Array:
    return OPERATORS[kind](*arrays, **options)


# ---------------------------------------------------------------- failure paths


@pytest.mark.parametrize(
    ("kind", "arrays", "options", "reason"),
    [
        ("spnorm", [(1, 2, 2, 3)], {"param": (2, 2, 10)}, "param is (2, 2, 10)"),
        ("spnorm", [(1, 2, 2, 3)], {"param": (0, 2, 10, 2)}, "whole numbers from 1 on"),
        ("spnorm", [(1, 2, 2, 3)], {"param": (1.5, 2, 10, 2)}, "the window of param is (1.5, 2)"),
        ("normoffset", [(1, 2, 2, 3)], {"param": (1.0,)}, "not enough values"),
        ("normalize", [(1, 1, 1, 3)], {"param": (5, 1)}, "not enough values"),
        ("bnorm", [(1, 1, 1, 3), (3,), (2,), (3, 2)], {}, "a bias of 2 numbers for 3 channels"),
        ("layerVLAD", [(1, 2, 2, 3), (1, 1, 4, 2), (1, 1, 4, 2)], {}, "reshape"),
        ("layerVLADv2", [(1, 2, 2, 4), (1, 1, 4, 2), (1,), (1, 1, 4, 2)], {}, "a bias of 1"),
    ],
)
def test_refuses(
    kind: str, arrays: list[tuple[int, ...]], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        operate(kind, *(np.ones(shape) for shape in arrays), **options)


# ---------------------------------------------------------------- all of them


def test_every_kind_has_a_sample() -> None:
    assert SAMPLES.keys() == OPERATORS.keys()
    assert OPERATORS.keys() >= NETVLAD > VECTORS


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("weights", [np.float32, np.float64])
def test_the_data_decides_the_precision(kind: str, weights: type[np.floating[Any]]) -> None:
    shapes, options = SAMPLES[kind]
    x = RANDOM.uniform(0, 1, SHAPES.get(kind, (2, 5, 6, 4)))
    params = [RANDOM.uniform(0, 1, shape).astype(weights) for shape in shapes]
    before = x.copy()
    double, single = (
        operate(
            kind,
            x.astype(dtype),
            *(p.astype(dtype) if kind in MERGING else p for p in params),
            **options,
        )
        for dtype in (np.float64, np.float32)
    )
    assert [double.dtype.name, single.dtype.name] == ["float64", "float32"]
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x, before)


# ---------------------------------------------------------------- element by element


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("relu", {}, [0.0, 0.0, 3.0]),
        ("relu", {"leak": 0.0}, [0.0, 0.0, 3.0]),
        ("relu", {"leak": 0.2}, [-0.4, 0.0, 3.0]),
        ("dropout", {}, [-2.0, 0.0, 3.0]),
        ("sigmoid", {}, [0.11920292202211755, 0.5, 0.9525741268224334]),
        ("softmax", {}, [0.006377460922442302, 0.047123415633101534, 0.9464991234444562]),
    ],
)
def test_by_hand(kind: str, options: dict[str, Any], expected: list[float]) -> None:
    y = operate(kind, pixel(-2.0, 0.0, 3.0), **options)
    np.testing.assert_allclose(y.ravel(), expected, atol=1e-15)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_values_do_not_overflow(kind: str, dtype: type[np.floating[Any]]) -> None:
    with np.errstate(all="raise", under="ignore"):
        y = operate(kind, pixel(-1000.0, 1000.0).astype(dtype))
    assert y.ravel().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "softmax", "layerTotalMaxPool"])
def test_a_nan_stays_one(kind: str) -> None:
    assert np.isnan(operate(kind, pixel(np.nan, 1.0)).ravel()[0])


def test_the_second_column_of_the_moments_is_sigma() -> None:
    moments = np.array([[10.0, 4.0], [20.0, 0.5]])
    y = operate("bnorm", pixel(18.0, 21.0), np.array([3.0, 5.0]), np.array([0.25, 0.75]), moments)
    assert y.ravel().tolist() == [6.25, 10.75]


# ---------------------------------------------------------------- normalizations


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 20])
def test_the_window_of_lrn(size: int) -> None:
    """MatConvNet's documentation, with channels k from 1 to D = 6."""
    x, (kappa, alpha, beta) = RANDOM.standard_normal((2, 3, 2, 6)), (1.5, 0.3, 0.75)
    expected = np.empty_like(x)
    for k in range(1, 7):
        first, last = max(1, k - (size - 1) // 2), min(6, k + size // 2)
        energy = np.square(x[..., first - 1 : last]).sum(axis=-1)
        expected[..., k - 1] = x[..., k - 1] / (kappa + alpha * energy) ** beta
    y = operate("normalize", x, param=(size, kappa, alpha, beta))
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_an_even_window_of_lrn_reaches_further_up() -> None:
    y = operate("normalize", pixel(1.0, 2.0, 4.0), param=(2, 0.0, 1.0, 1.0))
    np.testing.assert_allclose(y.ravel(), [1 / 5, 2 / 20, 4 / 16])


@pytest.mark.parametrize("norm", [1e-9, 1e-7, 1e-6, 1e-5, 1e-3, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_l2_of_short_vectors(norm: float, dtype: type[np.floating[Any]]) -> None:
    """`normalize` has its epsilon under the root, `layerWholeL2Normalize` beside it."""
    x = (norm * pixel(0.6, 0.0, -0.8)).astype(dtype)
    rooted = operate("normalize", x, param=(6, 1e-12, 1.0, 0.5))
    whole = operate("layerWholeL2Normalize", x)
    direction, tolerance = np.array([0.6, 0.0, -0.8]), float(4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(
        rooted.ravel(), direction * norm / np.sqrt(norm**2 + 1e-12), rtol=tolerance
    )
    np.testing.assert_allclose(whole.ravel(), direction * norm / (norm + 1e-12), rtol=tolerance)


@pytest.mark.parametrize(
    ("kind", "options", "length"),
    [
        ("normalize", {"param": (6, 1e-12, 1.0, 0.5)}, 1e-3),
        ("layerWholeL2Normalize", {}, 0.999000999000999),
    ],
)
def test_the_length_that_a_vector_of_1e_9_gets(
    kind: str, options: dict[str, Any], length: float
) -> None:
    y = operate(kind, 1e-9 * pixel(0.6, 0.0, -0.8), **options)
    assert np.linalg.norm(y) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("kind", ["normalize", "layerWholeL2Normalize"])
def test_nothing_stays_nothing(kind: str) -> None:
    options = {"param": (6, 1e-12, 1.0, 0.5)} if kind == "normalize" else {}
    assert not operate(kind, np.zeros((1, 1, 1, 3)), **options).any()


def test_the_whole_vector_runs_k_fastest() -> None:
    """VLAD's N×1×K×D: the number of cluster k and channel d goes to d·K + k."""
    clusters, channels = 3, 2
    core = np.array([[[10.0 * d + k + 1 for d in range(channels)] for k in range(clusters)]])
    y = operate("layerWholeL2Normalize", core[:, None])
    assert y.shape == (1, 1, 1, 6)
    np.testing.assert_allclose(y.ravel() / y.ravel()[0], [1, 2, 3, 11, 12, 13])


def test_the_whole_vector_of_a_map_runs_rows_columns_channels() -> None:
    x = np.arange(1.0, 9.0).reshape(1, 2, 2, 2)
    y = operate("layerWholeL2Normalize", x)
    np.testing.assert_allclose(y.ravel() / y.ravel()[0], [1, 5, 3, 7, 2, 6, 4, 8])


def test_each_image_has_its_own_norm() -> None:
    x = np.array([[3.0, 4.0], [30.0, 40.0]]).reshape(2, 1, 1, 2)
    np.testing.assert_allclose(operate("layerWholeL2Normalize", x)[:, 0, 0], [[0.6, 0.8]] * 2)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("layerTotalMaxPool", [7.0, -2.0]), ("layerTotalAvgPool", [4.0, -5.0])],
)
def test_total_pooling(kind: str, expected: list[float]) -> None:
    x = np.array([[1.0, -2.0], [3.0, -4.0], [5.0, -6.0], [7.0, -8.0]]).reshape(1, 2, 2, 2)
    y = operate(kind, x)
    assert y.shape == (1, 1, 1, 2)
    assert y.ravel().tolist() == expected


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 3), (2, 5), (4, 1)])
def test_spatial_normalization_is_the_loop(window: tuple[int, int]) -> None:
    """The mean of squares over what of the window lies in the image, channel by channel."""
    x, (high, wide), (alpha, beta) = RANDOM.standard_normal((2, 6, 5, 3)), window, (0.7, 0.75)
    expected = np.empty_like(x)
    for n, r, c, k in np.ndindex(x.shape):
        top, left = r - (high - 1) // 2, c - (wide - 1) // 2
        inside = x[n, max(top, 0) : top + high, max(left, 0) : left + wide, k]
        expected[n, r, c, k] = x[n, r, c, k] / (1 + alpha * np.square(inside).mean()) ** beta
    y = operate("spnorm", x, param=(*window, alpha, beta))
    np.testing.assert_allclose(y, expected, rtol=1e-13)


def test_spatial_normalization_by_hand() -> None:
    """A window of 1×2 lies over a pixel and its right neighbour; the last has none."""
    x = np.array([1.0, 3.0, 2.0]).reshape(1, 1, 3, 1)
    y = operate("spnorm", x, param=(1.0, 2.0, 2.0, 1.0))
    np.testing.assert_allclose(y.ravel(), [1 / (1 + 2 * 5.0), 3 / (1 + 2 * 6.5), 2 / (1 + 2 * 4.0)])


def test_an_offset_by_the_norm() -> None:
    """L = 9 + 16; of zeros L is 1e-8."""
    np.testing.assert_allclose(
        operate("normoffset", pixel(3.0, -4.0), param=(0.5, 0.5)).ravel(), [0.5, -6.5]
    )
    np.testing.assert_allclose(
        operate("normoffset", pixel(0.0, 0.0), param=(2.0, 0.5)).ravel(), [-2e-4, -2e-4]
    )


@pytest.mark.parametrize("leak", [0.1, 1.0])
def test_a_batch_of_one_channel(leak: float) -> None:
    x = np.array([-1.0, 2.0]).reshape(2, 1, 1, 1)
    assert operate("relu", x, leak=leak).ravel().tolist() == [-leak, 2.0]
    assert operate("softmax", x).ravel().tolist() == [1.0, 1.0]
    np.testing.assert_allclose(
        operate("normalize", x, param=(2, 1.0, 1.0, 0.5)).ravel(), [-(2**-0.5), 2 / 5**0.5]
    )


# ---------------------------------------------------------------- VLAD

ASSIGNMENT = np.log([[1.0, 3.0], [4.0, 1.0]]).reshape(1, 1, 2, 2)
CENTRES = np.array([[0.5, 0.0], [0.0, 0.25]]).reshape(1, 1, 2, 2)


def test_vlad_by_hand() -> None:
    """Descriptors (1,0) and (0,1): alpha (1/4, 3/4) and (4/5, 1/5); minus centres c + x."""
    x = np.eye(2).reshape(1, 1, 2, 2)
    y = operate("layerVLAD", x, ASSIGNMENT, -CENTRES)
    assert y.shape == (1, 1, 2, 2)
    np.testing.assert_allclose(
        y[0, 0],
        [
            [0.25 * 0.5 + 0.8 * -0.5, 0.25 * 0.0 + 0.8 * 1.0],
            [0.75 * 1.0 + 0.2 * 0.0, 0.75 * -0.25 + 0.2 * 0.75],
        ],
        atol=1e-15,
    )


def test_vlad_v2_by_hand() -> None:
    """A bias of log(3) for cluster 1 turns alpha into (1/2, 1/2) and (12/13, 1/13)."""
    x = np.eye(2).reshape(1, 1, 2, 2)
    y = operate("layerVLADv2", x, ASSIGNMENT, np.log([3.0, 1.0]), -CENTRES)
    np.testing.assert_allclose(
        y[0, 0],
        [
            [0.5 * 0.5 + 12 / 13 * -0.5, 12 / 13],
            [0.5, 0.5 * -0.25 + 1 / 13 * 0.75],
        ],
        atol=1e-15,
    )


@pytest.mark.parametrize("kind", ["layerVLAD", "layerVLADv2"])
def test_vlad_is_the_sum_of_weighted_residuals(kind: str) -> None:
    x = RANDOM.standard_normal((2, 3, 4, 5))
    assignment, minus_centres = RANDOM.standard_normal((2, 1, 1, 5, 6))
    bias = RANDOM.standard_normal(6) if kind == "layerVLADv2" else np.zeros(6)
    expected = np.zeros((2, 1, 6, 5))
    for n, r, c in np.ndindex(2, 3, 4):
        weight = np.exp(x[n, r, c] @ assignment[0, 0] + bias)
        for k in range(6):
            alpha = weight[k] / weight.sum()
            expected[n, 0, k] += alpha * (x[n, r, c] + minus_centres[0, 0, :, k])
    weights = (
        (assignment, bias, minus_centres)
        if kind == "layerVLADv2"
        else (
            assignment,
            minus_centres,
        )
    )
    np.testing.assert_allclose(operate(kind, x, *weights), expected, atol=1e-12)
