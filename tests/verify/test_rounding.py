"""What float32 costs at a layer, by the order in which it is summed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import Checkpoint, Layer, Origin
from verify.rounding import rounded

Array = NDArray[Any]


def whitening(filters: Array, bias: float = 0.0) -> Checkpoint:
    tensors = {"k": filters.reshape(1, 1, len(filters), -1), "b": np.full(filters.shape[-1], bias)}
    options = {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (1, 1)}
    layer = Layer("WPCA", "conv", ("x",), ("k", "b"), options)
    return Checkpoint(tensors, (layer,), {}, Origin(Path("net.mat"), "matconvnet"))


def costs(x: Array, net: Checkpoint) -> list[float]:
    """The largest error of each order."""
    exact = x.astype(np.float64) @ net.tensors["k"][0, 0] + net.tensors["b"]
    return [float(np.abs(y - exact).max()) for y in rounded(net, "WPCA", [x])]


def test_a_plain_loop_is_among_the_orders() -> None:
    """1e8 swallows the 1 behind it; two thirds of what is summed is lost."""
    x = np.tile(np.array([1e8, 1, -1e8], np.float32), 40)[None]
    assert costs(x, whitening(np.ones((120, 2), np.float32)))[1] == 40.0


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 300])
def test_a_plain_loop_adds_one_product_after_another(rows: int, length: int) -> None:
    random = np.random.default_rng(length)
    x = random.standard_normal((rows, length)).astype(np.float32)
    filters = random.standard_normal((length, 5)).astype(np.float32)
    found = list(rounded(whitening(filters, 0.5), "WPCA", [x]))[1]
    total = np.zeros((rows, 5), np.float32)
    for place in range(length):
        total = total + x[:, place, None] * filters[place]
    np.testing.assert_array_equal(found, total + np.float32(0.5))


def test_a_map_is_no_vector() -> None:
    x = np.ones((1, 4, 4, 3), np.float32)
    found = list(rounded(whitening(np.ones((3, 2), np.float32)), "WPCA", [x]))
    assert len(found) == 8
    assert {y.shape for y in found} == {(1, 4, 4, 2)}
