"""Samplers and grids against loops that follow MatConvNet's definitions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Array
from verify.samplers import affine_grid, bilinear_sampler, roi_pool, uniform_grid

RANDOM = np.random.default_rng(11)


def looped_sample(x: Array, v: float, u: float) -> Array:
    """One place of H×W×C by coordinates from -1 to 1; outside the map is zero."""
    height, width, channels = x.shape
    row, column = (v + 1) / 2 * (height - 1), (u + 1) / 2 * (width - 1)
    y = np.zeros(channels)
    for r in range(height):
        for c in range(width):
            near = max(0.0, 1 - abs(row - r)) * max(0.0, 1 - abs(column - c))
            y += near * x[r, c]
    return y


# ---------------------------------------------------------------- failure paths


@pytest.mark.parametrize(
    ("function", "shapes", "options", "reason"),
    [
        (bilinear_sampler, [(1, 3, 3, 1), (1, 3, 3, 2)], {}, "a grid of 3 rows, it must be 2×Ho"),
        (bilinear_sampler, [(2, 3, 3, 1), (3, 2, 3, 3)], {}, "3 grids cannot be shared among 2"),
        (bilinear_sampler, [(2, 3, 3, 1), (1, 2, 3, 3)], {}, "1 grids cannot be shared among 2"),
        (affine_grid, [(1, 1, 1, 5)], {"Ho": 2, "Wo": 2}, "(1, 1, 5) are not the 6 numbers"),
        (affine_grid, [(1, 2, 2, 6)], {"Ho": 2, "Wo": 2}, "(2, 2, 6) are not the 6 numbers"),
        (affine_grid, [(1, 1, 1, 6)], {"Ho": 0, "Wo": 2}, "whole numbers from 1 on"),
        (uniform_grid, [(1, 1, 1, 6)], {"Ho": 2, "Wo": 2}, "(1, 1, 6) are not the 3 numbers"),
        (roi_pool, [(1, 3, 3, 1), (1, 4, 2, 1)], {}, "8 numbers are no regions"),
        (roi_pool, [(1, 3, 3, 1), (1, 5, 2, 1)], {"method": "sum"}, "no pooling method 'sum'"),
        (roi_pool, [(1, 3, 3, 1), (1, 5, 2, 1)], {"subdivisions": (0, 1)}, "from 1 on"),
        (roi_pool, [(1, 3, 3, 1), (1, 5, 2, 1)], {"transform": (1, 2, 3)}, "must be 1, 2 or 2×3"),
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


# ---------------------------------------------------------------- the sampler


def test_sampler_is_the_loop() -> None:
    x, grid = RANDOM.standard_normal((2, 4, 5, 3)), RANDOM.uniform(-1.5, 1.5, (4, 2, 6, 7))
    y = bilinear_sampler(x, grid)
    assert y.shape == (4, 6, 7, 3)
    for m, i, j in np.ndindex(4, 6, 7):
        expected = looped_sample(x[m // 2], *grid[m, :, i, j])
        np.testing.assert_allclose(y[m, i, j], expected, atol=1e-13)


@pytest.mark.parametrize(
    ("v", "u", "expected"),
    [
        (-1.0, -1.0, 1.0),
        (-1.0, 1.0, 3.0),
        (1.0, -1.0, 4.0),
        (1.0, 1.0, 6.0),
        (0.0, 0.0, 3.5),
        (-1.0, 0.5, 2.5),
        (0.5, -1.0, 3.25),
        (-1.0, -1.5, 0.5),  # half a pixel to the left of the first
        (2.0, 1.0, 3.0),  # half a pixel below the last
        (-3.0, -1.0, 0.0),
        (1.0, 2.0, 0.0),
        (math.nan, 0.0, 0.0),
    ],
)
def test_rows_come_before_columns(v: float, u: float, expected: float) -> None:
    x = np.arange(1.0, 7.0).reshape(1, 2, 3, 1)
    assert bilinear_sampler(x, np.array([v, u]).reshape(1, 2, 1, 1)).item() == expected


def test_what_lies_outside_does_not_see_the_first_pixel() -> None:
    x = np.full((1, 2, 2, 1), np.inf)
    assert bilinear_sampler(x, np.full((1, 2, 1, 1), 5.0)).item() == 0.0


# ---------------------------------------------------------------- grids


def test_affine_grid_reads_matlabs_order() -> None:
    """[row column] = [v u] · L + t, where c reshapes to 2×3 column by column: L, then t."""
    numbers = RANDOM.standard_normal((2, 6))
    y = affine_grid(numbers.reshape(2, 1, 1, 6), Ho=3, Wo=5)
    assert y.shape == (2, 2, 3, 5)
    for n in range(2):
        matrix = numbers[n].reshape(3, 2).T
        for i, v in enumerate([-1.0, 0.0, 1.0]):
            for j, u in enumerate([-1.0, -0.5, 0.0, 0.5, 1.0]):
                expected = np.array([v, u]) @ matrix[:, :2] + matrix[:, 2]
                np.testing.assert_allclose(y[n, :, i, j], expected, atol=1e-14)


def test_affine_grid_by_hand() -> None:
    y = affine_grid(np.array([1.0, 10, 100, 1000, 0.5, 0.25]).reshape(1, 1, 1, 6), Ho=2.0, Wo=2.0)
    assert y[0, 0].tolist() == [[-10.5, 9.5], [-8.5, 11.5]]
    assert y[0, 1].tolist() == [[-1099.75, 900.25], [-899.75, 1100.25]]


def test_the_identity_gives_the_image_back() -> None:
    x = RANDOM.standard_normal((1, 4, 6, 2))
    grid = affine_grid(np.array([1.0, 0, 0, 1, 0, 0]).reshape(1, 1, 1, 6), Ho=4, Wo=6)
    np.testing.assert_allclose(bilinear_sampler(x, grid), x, atol=1e-14)


def test_a_grid_of_one_place_is_at_the_end() -> None:
    """MATLAB's linspace(-1, 1, 1) is 1."""
    grid = affine_grid(np.array([1.0, 0, 0, 1, 0, 0]).reshape(1, 1, 1, 6), Ho=1, Wo=1)
    assert grid.ravel().tolist() == [1.0, 1.0]


def test_uniform_grid_is_a_scale_and_a_shift() -> None:
    y = uniform_grid(np.array([2.0, 0.5, -1.0]).reshape(1, 1, 1, 3), Ho=2, Wo=3)
    assert y[0, 0].tolist() == [[-1.5, -1.5, -1.5], [2.5, 2.5, 2.5]]
    assert y[0, 1].tolist() == [[-3.0, -1.0, 1.0], [-3.0, -1.0, 1.0]]


# ---------------------------------------------------------------- regions


def looped_tile(values: Array, first: int, last: int, number: int, count: int) -> range:
    """The pixels of a tile along one axis, from 0 on, clipped to the image."""
    size = max(last - first + 1, 1) / count
    low, high = math.floor(number * size) + first, math.ceil((number + 1) * size) + first
    return range(max(low, 0), min(high, len(values)))


@pytest.mark.parametrize("method", ["max", "avg"])
def test_regions_are_the_loop(method: str) -> None:
    x = RANDOM.standard_normal((2, 7, 9, 3)) - 5.0
    rois = np.array([[1.0, 1, 1, 9, 7], [2, 3, 2, 7, 6], [1, 8, 5, 12, 9], [2, 4, 4, 3, 2]])
    y = roi_pool(x, rois.T.reshape(1, 5, 4, 1), method=method, subdivisions=(2, 3))
    assert y.shape == (4, 2, 3, 3)
    for k, i, j in np.ndindex(4, 2, 3):
        image, u0, v0, u1, v1 = rois[k].astype(int)
        source = x[image - 1]
        rows = looped_tile(source, v0 - 1, v1 - 1, i, 2)
        columns = looped_tile(source[0], u0 - 1, u1 - 1, j, 3)
        inside = [source[r, c] for r in rows for c in columns]
        expected = np.zeros(3)
        if inside:
            expected = np.max(inside, axis=0) if method == "max" else np.mean(inside, axis=0)
        np.testing.assert_allclose(y[k, i, j], expected, atol=1e-13)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (1, [5.0]),  # pixels 1 and 2 both ways
        (2.0, [11.0]),  # to pixel 3
        ((2.0, 1.0), [7.0]),  # u to 3, v to 2
        (((0.0, 1.0, 0.0), (1.0, 0.0, 1.0)), [9.0]),  # u = v, v = u + 1
        (10, [15.0]),
    ],
)
def test_corners_are_transformed(transform: Any, expected: list[float]) -> None:
    x = np.array([[0.0, 1, 2, 3], [4, 5, 7, 8], [8, 9, 11, 12], [12, 13, 14, 15]])
    region = np.array([1.0, 1, 1, 2, 2]).reshape(1, 5, 1, 1)
    y = roi_pool(x.reshape(1, 4, 4, 1), region, subdivisions=(1, 1), transform=transform)
    assert y.ravel().tolist() == expected


@pytest.mark.parametrize("layout", [(1, 5, 1, 1), (1, 1, 1, 5)])
def test_regions_may_be_flattened(layout: tuple[int, ...]) -> None:
    """In MATLAB's order: rows, columns, channels."""
    x = np.arange(1.0, 9.0).reshape(1, 2, 2, 2)
    region = np.array([1.0, 1, 1, 2, 2]).reshape(layout)
    y = roi_pool(x, region, subdivisions=(2, 2), flatten=True)
    assert y.shape == (1, 1, 1, 8)
    assert y.ravel().tolist() == [1, 5, 3, 7, 2, 6, 4, 8]


def test_an_image_that_there_is_not_is_the_nearest() -> None:
    x = np.array([1.0, 2.0]).reshape(2, 1, 1, 1)
    rois = np.array([[0.0, 1, 1, 1, 1], [9, 1, 1, 1, 1]]).T.reshape(1, 5, 2, 1)
    assert roi_pool(x, rois, subdivisions=(1, 1)).ravel().tolist() == [1.0, 2.0]
