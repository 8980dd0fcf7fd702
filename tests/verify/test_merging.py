"""Layers that take several arrays together, or lay one out anew, against hand-made numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Array
from verify.merging import add, axpy, concat, crop, flatten, pdist, product, scale

RANDOM = np.random.default_rng(10)


def pixel(*values: float) -> Array:
    return np.array(values).reshape(1, 1, 1, -1)


def counted(*shape: int) -> Array:
    return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)


# ---------------------------------------------------------------- failure paths


@pytest.mark.parametrize(
    ("function", "shapes", "options", "reason"),
    [
        (add, [(1, 2, 2, 3), (1, 1, 1, 3)], {}, "differ in shape: (1, 1, 1, 3), (1, 2, 2, 3)"),
        (concat, [(1, 2, 2, 3), (1, 2, 2, 3)], {"dim": 5}, "dim is 5, it must be 1, 2, 3 or 4"),
        (concat, [(1, 2, 2, 3), (1, 2, 3, 3)], {}, "must match exactly"),
        (product, [(1, 2, 2, 3), (1, 2, 2, 2)], {}, "shapes do not fit: (1, 2, 2, 2), (1, 2, 2"),
        (scale, [(1, 2, 2, 3), (1, 1, 2)], {"hasBias": False}, "(1, 1, 2), (1, 2, 2, 3)"),
        (scale, [(1, 2, 2, 3), (2, 3)], {"hasBias": False}, "a weight of shape (2, 3)"),
        (scale, [(1, 2, 2, 3), (1, 1, 3)], {}, "has hasBias but no bias"),
        (scale, [(1, 2, 2, 3), (1, 1, 3), (1, 1, 2)], {}, "shapes do not fit"),
        (axpy, [(1, 1, 1, 2), (1, 2, 2, 3), (1, 2, 2, 3)], {}, "shapes do not fit"),
        (axpy, [(1, 1, 1, 3), (1, 2, 2, 3), (1, 1, 1, 3)], {}, "its inputs differ"),
        (crop, [(1, 4, 4, 1), (1, 5, 4, 1)], {}, "4×4 cannot be cropped to 5×4"),
        (crop, [(1, 4, 4, 1), (1, 2, 2, 1)], {"crop": (1,)}, "crop is (1,)"),
        (crop, [(1, 4, 4, 1), (1, 2, 2, 1)], {"crop": (-1, 0)}, "whole numbers from 0 on"),
        (flatten, [(1, 4, 4, 1)], {"axis": 4}, "axis is 4, it must be 1, 2 or 3"),
        (pdist, [(1, 4, 4, 2), (1, 4, 4, 3)], {}, "shapes do not fit"),
        (pdist, [(1, 4, 4, 2), (1, 4, 4, 2), (1, 3, 1, 1)], {}, "shapes do not fit"),
    ],
)
def test_refuses(
    function: Callable[..., Array],
    shapes: list[tuple[int, ...]],
    options: dict[str, Any],
    reason: str,
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        function(*(np.ones(shape) for shape in shapes), **options)


# ---------------------------------------------------------------- concat, sum, product


@pytest.mark.parametrize(("dim", "axis"), [(1, 1), (2, 2), (3, 3), (3.0, 3), (4, 0)])
def test_concat_counts_axes_as_matlab(dim: float, axis: int) -> None:
    a, b = np.zeros((1, 2, 3, 4)), np.ones((1, 2, 3, 4))
    y = concat(a, b, dim=dim)
    assert y.shape[axis] == 2 * a.shape[axis]
    assert np.take(y, 0, axis).max() == 0.0
    assert np.take(y, -1, axis).min() == 1.0


def test_concat_takes_parts_of_different_sizes_in_their_order() -> None:
    assert concat(pixel(3.0, 1.0), pixel(2.0), pixel(5.0, 4.0)).ravel().tolist() == [3, 1, 2, 5, 4]


def test_sum_takes_any_number_of_inputs() -> None:
    assert add(pixel(1.0), pixel(10.0), pixel(100.0)).ravel().tolist() == [111.0]
    assert add(pixel(7.0)).ravel().tolist() == [7.0]


def test_sum_goes_from_the_first_input_to_the_last() -> None:
    large, small = pixel(1e8).astype(np.float32), pixel(1.0).astype(np.float32)
    assert add(large, small, -large).item() == 0.0
    assert add(large, -large, small).item() == 1.0


def test_product_spreads_a_vector_over_a_map() -> None:
    x = counted(1, 2, 2, 2)
    y = product(x, pixel(10.0, 0.5), np.array([[1.0], [2.0]]).reshape(1, 2, 1, 1))
    assert y[0].tolist() == [[[10, 1], [30, 2]], [[100, 6], [140, 8]]]


def test_axpy() -> None:
    y = axpy(pixel(2.0, -1.0), counted(1, 1, 2, 2), 100 * counted(1, 1, 2, 2))
    assert y.tolist() == [[[[102, 198], [306, 396]]]]


# ---------------------------------------------------------------- scale


@pytest.mark.parametrize("channels", [(3,), (1, 1, 3), (1, 1, 1, 3)], ids=["C", "1×1×C", "input"])
def test_scale_by_channel(channels: tuple[int, ...]) -> None:
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    multiplier = np.array([2.0, 0.0, -1.0]).reshape(channels)
    bias = np.array([0.5, 7.0, 0.0]).reshape(channels)
    assert scale(x, multiplier, bias)[0, 0].tolist() == [[2.5, 7.0, -3.0], [8.5, 7.0, -6.0]]
    assert scale(x, multiplier, hasBias=False)[0, 0].tolist() == [[2, 0, -3], [8, 0, -6]]
    assert scale(x, multiplier, bias, hasBias=False)[0, 0].tolist() == [[2, 0, -3], [8, 0, -6]]


def test_scale_of_a_whole_map() -> None:
    x, multiplier, bias = (
        RANDOM.standard_normal((2, 3, 4, 2)),
        *RANDOM.standard_normal((2, 3, 4, 2)),
    )
    y = scale(x, multiplier, bias)
    for n, r, c, k in np.ndindex(x.shape):
        assert y[n, r, c, k] == x[n, r, c, k] * multiplier[r, c, k] + bias[r, c, k]


def test_a_factor_of_each_image_is_an_input() -> None:
    x, factor = np.ones((2, 1, 2, 1)), np.array([3.0, 5.0]).reshape(2, 1, 1, 1)
    assert scale(x, factor, np.array([1.0]))[:, 0, :, 0].tolist() == [[4, 4], [6, 6]]


def test_a_vector_may_be_scaled_by_a_map() -> None:
    y = scale(pixel(1.0, 10.0), counted(1, 2, 2, 1), hasBias=False)
    assert y.shape == (1, 2, 2, 2)
    assert y[0, 1].tolist() == [[3, 30], [4, 40]]


# ---------------------------------------------------------------- crop, flatten


@pytest.mark.parametrize(
    ("offset", "rows", "columns"),
    [
        ((0, 0), [0, 1, 2], [0, 1]),
        ((1, 2), [1, 2, 3], [2, 3]),
        ((2, 3), [2, 3, 4], [3, 4]),
        ((9, 9), [2, 3, 4], [4, 5]),
        ((1.0, 2.0), [1, 2, 3], [2, 3]),
    ],
)
def test_crop_takes_as_much_as_the_second_input_has(
    offset: tuple[float, float], rows: list[int], columns: list[int]
) -> None:
    """Of 5×6 to 3×2: 2 rows and 4 columns go, at most `offset` above and to the left."""
    x = counted(2, 5, 6, 3)
    y = crop(x, np.zeros((2, 3, 2, 7)), crop=offset)
    np.testing.assert_array_equal(y, x[:, rows][:, :, columns])


def test_crop_to_the_same_size_is_nothing() -> None:
    x = counted(1, 2, 3, 1)
    np.testing.assert_array_equal(crop(x, x, crop=(1, 1)), x)


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (2, 8, 1, 1)), (2, (2, 1, 8, 1)), (3, (2, 1, 1, 8))]
)
def test_flatten_runs_rows_columns_channels(axis: int, shape: tuple[int, ...]) -> None:
    x = counted(1, 2, 2, 2)
    y = flatten(np.concatenate([x, 10 * x]), axis=axis)
    assert y.shape == shape
    assert y[0].ravel().tolist() == [1, 5, 3, 7, 2, 6, 4, 8]
    assert y[1].ravel().tolist() == [10, 50, 30, 70, 20, 60, 40, 80]


# ---------------------------------------------------------------- distances


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"aggregate": False}, [5.0, 13.0]),
        ({"aggregate": False, "noRoot": True}, [25.0, 169.0]),
        ({"aggregate": False, "p": 1}, [7.0, 17.0]),
        ({"aggregate": False, "p": 3.0}, [91 ** (1 / 3), (125 + 1728) ** (1 / 3)]),
        ({}, [18.0]),
    ],
)
def test_distances(options: dict[str, Any], expected: list[float]) -> None:
    x = np.array([[3.0, -4.0], [5.0, 12.0]]).reshape(1, 1, 2, 2)
    y = pdist(x + 1, np.ones((1, 1, 1, 2)), **options)
    np.testing.assert_allclose(y.ravel(), expected)
    assert y.ndim == 4


def test_weights_multiply_distances() -> None:
    x = np.array([3.0, 4.0, 6.0, 8.0]).reshape(2, 1, 1, 2)
    y = pdist(x, np.zeros((1, 1, 1, 2)), np.array([2.0, 0.5]).reshape(2, 1, 1, 1), aggregate=False)
    assert y.ravel().tolist() == [10.0, 5.0]
