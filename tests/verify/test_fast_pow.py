"""MatConvNet's approximate power: literal values, and the descriptor of its stock CPU build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.readers import matconvnet
from verify.fast_pow import STOCK_CPU, fast_pow, normalize
from verify.operators import OPERATORS
from verify.oracle import execute


@pytest.mark.parametrize(
    ("x", "exponent", "expected"),
    [
        (1.0, -0.5, 1.0),
        (0.25, -0.5, 2.0),  # exact where the root is a power of two
        (4.0, -0.5, 0.5),
        (2.0, -0.5, 0.70667833),  # the root is 0.70710678
        (0.5, -0.5, 1.4133565),
        (1.5, -0.5, 0.8147195),
        (3.0, -0.5, 0.57613474),
        (1e-12, -0.5, 999672.0),
        (1e5, -0.5, 0.0031554382),
        (3.0, -0.75, 0.43741912),
        (1.5, -0.75, 0.7353733),
    ],
)
def test_values(x: float, exponent: float, expected: float) -> None:
    found = fast_pow(np.array([x], np.float32), exponent)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [expected], rtol=2e-7)


def test_it_is_off_by_two_thousandths_of_a_root_and_no_more() -> None:
    x = np.exp2(np.linspace(-8, 8, 4096)).astype(np.float32)
    error = np.abs(fast_pow(x, -0.5) * np.sqrt(x.astype(np.float64)) - 1)
    assert 2.1e-3 < error.max() < 2.2e-3


def test_any_shape_and_any_order_in_memory() -> None:
    x = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    turned = fast_pow(x.transpose(2, 0, 1), -0.5)
    np.testing.assert_array_equal(turned, fast_pow(x, -0.5).transpose(2, 0, 1))


@pytest.mark.parametrize(
    "param", [(18, 1e-12, 1, 0.5), (5, 1, 2e-2, 0.75), (4, 2, 0.1, 0.75), (9, 1, 1, 0.5)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_apart_from_the_power_it_normalizes(
    param: tuple[float, ...], dtype: type[np.float32] | type[np.float64]
) -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 4, 9)).astype(dtype)
    expected = OPERATORS["normalize"](x.astype(np.float64), param=param)
    found = normalize(x, param=param)
    assert found.dtype == dtype
    assert 1e-5 < np.abs(found - expected).max() / np.abs(expected).max() < 4e-3


def test_only_normalization_differs_from_the_oracle_s_operators() -> None:
    assert STOCK_CPU.keys() == OPERATORS.keys()
    assert {k for k in STOCK_CPU if STOCK_CPU[k] is not OPERATORS[k]} == {"normalize", "lrn"}


def test_it_gives_the_stock_build_s_descriptor(shared_data: Path) -> None:
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    folder = shared_data / "netvlad"
    checkpoint = matconvnet.read(folder / "vd16_white64_classes_v7.mat")
    picture = np.load(folder / "image_query_96x128.npy", allow_pickle=False)
    stock = np.load(folder / "matconvnet_stock_cpu_descriptor_query_96x128.npy", allow_pickle=False)
    *_, (_, found) = execute(checkpoint, picture, operators=STOCK_CPU)
    assert np.linalg.norm(found[0] - stock.ravel()) < 1e-5  # 3.1e-3 with the exact power
