"""MatConvNet's layers that take values from places which other layers choose.

`dagnn.BilinearSampler`, `AffineGridGenerator`, `UniformScalingGridGenerator` and `ROIPooling` of
MatConvNet 1.0-beta25. A grid is 2×Ho×Wo×N in MATLAB, so N×2×Ho×Wo here: for each place of the
output the row, then the column of the input from which it takes its value, from -1 (the middle of
the first pixel) to 1 (the middle of the last). See `verify.operators` for what all layers share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np

from converters.checkpoint import Array
from verify.windows import whole

__all__ = ["affine_grid", "bilinear_sampler", "corners", "roi_pool", "uniform_grid"]


def bilinear_sampler(x: Array, grid: Array) -> Array:
    """`vl_nnbilinearsampler`: maps N×H×W×C and a grid M×2×Ho×Wo to M×Ho×Wo×C.

    M is a multiple of N: the first M/N grids are of the first map. Outside of a map all is 0,
    also in part: half a pixel outside there is half of the border's value.
    """
    if grid.shape[1] != 2:
        raise ValueError(f"a grid of {grid.shape[1]} rows, it must be 2×Ho×Wo of MATLAB's axes")
    if len(grid) % len(x):
        raise ValueError(f"{len(grid)} grids cannot be shared among {len(x)} maps")
    v, u = ((grid[:, axis] + 1) / 2 * (x.shape[1 + axis] - 1) for axis in (0, 1))
    return reduce(np.add, corners(x, v, u))


def corners(x: Array, v: Array, u: Array) -> Iterator[Array]:
    """What each of the four pixels around row v and column u (M×Ho×Wo) adds, left ones first."""
    images, height, width, _ = x.shape
    image = np.repeat(np.arange(images), len(v) // images)[:, None, None]
    top, left = np.floor(v), np.floor(u)
    for j, i in np.ndindex(2, 2):
        row, column = top + i, left + j
        weight = (v - top if i else 1 - (v - top)) * (u - left if j else 1 - (u - left))
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        place = (np.where(inside, at, 0).astype(int) for at in (row, column))
        share = x[(image, *place)]
        share[~inside] = 0
        yield np.where(inside, weight, 0)[..., None] * share


def affine_grid(x: Array, *, Ho: float, Wo: float) -> Array:
    """`dagnn.AffineGridGenerator`: six numbers c per image to a grid N×2×Ho×Wo.

    At the place (v, u) of the output the row is c1·v + c2·u + c5, the column c3·v + c4·u + c6.
    """
    c = _per_image(x, 6)
    v, u = _places(Ho, Wo, x)
    return np.stack([c[0] * v + c[1] * u + c[4], c[2] * v + c[3] * u + c[5]], axis=1)


def uniform_grid(x: Array, *, Ho: float, Wo: float) -> Array:
    """`dagnn.UniformScalingGridGenerator`: (s, ty, tx) per image to a grid N×2×Ho×Wo.

    At the place (v, u) of the output the row is s·v + ty, the column s·u + tx.
    """
    s, ty, tx = _per_image(x, 3)
    v, u = (np.broadcast_to(at, (1, int(Ho), int(Wo))) for at in _places(Ho, Wo, x))
    return np.stack([s * v + ty, s * u + tx], axis=1)


def roi_pool(
    x: Array,
    rois: Array,
    *,
    method: str = "max",
    subdivisions: Sequence[float] = (6, 6),
    transform: float | Sequence[float] | Sequence[Sequence[float]] = 1.0,
    flatten: bool = False,
) -> Array:
    """`dagnn.ROIPooling`: each of K regions in `subdivisions` tiles, K×h×w×C.

    rois       [image, u0, v0, u1, v1] K times, from 1 on, one after the other in MATLAB's order
               (5×K there: N×H×W×C of 1×5×K×1 here).
    transform  of the corners: a scale about pixel 1, one for u and one for v, or 2×3 as rows.
    flatten    K×1×1×(h·w·C) instead, in MATLAB's order.

    A tile that lies outside is 0.
    """
    if method not in ("max", "avg"):
        raise ValueError(f"no pooling method {method!r}, there are 'max' and 'avg'")
    if rois.size % 5:
        raise ValueError(f"{rois.size} numbers are no regions, each has 5")
    tiles = whole("subdivisions", subdivisions, 2, least=1)
    matrix, pool = _matrix(transform), np.max if method == "max" else np.mean
    regions = rois.transpose(0, 3, 2, 1).reshape(-1, 5).astype(np.float64)
    y = np.zeros((len(regions), *tiles, x.shape[3]), x.dtype)
    for region, (image, *corners) in zip(y, regions, strict=True):
        ends = np.reshape(corners, (2, 2)) @ matrix[:, :2].T + matrix[:, 2]
        (left, top), (right, bottom) = np.trunc(ends + np.copysign(0.5, ends)).astype(int) - 1
        rows = list(_tiles(top, bottom, tiles[0], x.shape[1]))
        columns = list(_tiles(left, right, tiles[1], x.shape[2]))
        source = x[min(max(int(image) - 1, 0), len(x) - 1)]
        for i, j in np.ndindex(*tiles):
            tile = source[rows[i], columns[j]]
            if tile.size:
                region[i, j] = pool(tile, axis=(0, 1))
    return y.transpose(0, 3, 2, 1).reshape(len(y), 1, 1, -1) if flatten else y


def _per_image(x: Array, count: int) -> Array:
    """`count` numbers for each image, in MATLAB's order, as count×N×1×1."""
    numbers = x.transpose(3, 2, 1, 0).reshape(-1, len(x), 1, 1)
    if len(numbers) != count:
        raise ValueError(f"{x.shape[1:]} are not the {count} numbers of a transformation")
    return numbers


def _places(Ho: float, Wo: float, x: Array) -> tuple[Array, Array]:
    """v (a column) and u (a row) of the output; MATLAB's linspace of one is its end."""
    sizes = whole("Ho and Wo", (Ho, Wo), 2, least=1)
    v, u = (np.linspace(-1, 1, n) if n > 1 else np.ones(1) for n in sizes)
    return v.astype(x.dtype)[:, None], u.astype(x.dtype)


def _matrix(transform: float | Sequence[float] | Sequence[Sequence[float]]) -> Array:
    given = np.asarray(transform, np.float64)
    if given.shape == (2, 3):
        return given
    if given.size not in (1, 2):
        raise ValueError(f"transform has the shape {given.shape}, it must be 1, 2 or 2×3 numbers")
    across, down = np.broadcast_to(given.ravel(), 2)
    return np.array([[across, 0, 1 - across], [0, down, 1 - down]])


def _tiles(first: int, last: int, count: int, size: int) -> Iterator[slice]:
    """The tiles of pixels `first` to `last`, which overlap where they do not divide them."""
    step = max(last - first + 1, 1) / count
    for number in range(count):
        ends = first + math.floor(number * step), first + math.ceil((number + 1) * step)
        yield slice(*(min(max(end, 0), size) for end in ends))
