"""Other orders of summation: the same function in float64, other bits in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Array, Checkpoint, Layer, Origin
from verify.operators import OPERATORS
from verify.rounding import reordered, rounded

RANDOM = np.random.default_rng(12)

#: Kind -> shapes of its arrays, and its settings.
CASES: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("convt", [(2, 5, 6, 8), (4, 3, 2, 8), (2,)], {"upsample": (2, 3), "crop": (1, 0, 0, 2)}),
    (
        "convt",
        [(1, 5, 6, 8), (3, 4, 5, 8), (20,)],
        {"upsample": (3, 2), "numGroups": 4, "crop": (0, 2, 1, 0)},
    ),
    ("convt", [(1, 5, 6, 8), (3, 4, 5, 8)], {}),
    ("pool", [(2, 9, 8, 3)], {"pool": (4, 3), "method": "avg", "stride": (2, 3)}),
    ("pool", [(2, 9, 8, 3)], {"pool": (3, 3), "method": "avg", "pad": (2, 0, 1, 2)}),
    ("pool", [(2, 14, 14, 3)], {"pool": (14, 14), "method": "avg"}),
    ("spnorm", [(2, 9, 8, 3)], {"param": (3, 4, 2.0, 0.5)}),
    ("spnorm", [(2, 9, 8, 3)], {"param": (2, 2, 10.0, 2.0)}),
    ("normoffset", [(2, 4, 4, 30)], {"param": (1.0, 0.5)}),
    ("noffset", [(2, 4, 4, 30)], {"param": (0.7, 0.3)}),
    ("softmax", [(2, 4, 4, 100)], {}),
    ("sigmoid", [(2, 4, 4, 3)], {}),
    ("sum", [(2, 4, 4, 3)] * 5, {}),
    ("product", [(2, 4, 4, 3)] * 5, {}),
    ("bilinearsampler", [(2, 7, 8, 3), (4, 2, 5, 6)], {}),
    ("affinegrid", [(3, 1, 1, 6)], {"Ho": 7, "Wo": 9}),
]


def arrays_of(shapes: list[tuple[int, ...]]) -> list[Array]:
    return [RANDOM.standard_normal(shape) for shape in shapes]


def test_every_kind_stays() -> None:
    assert reordered(3).keys() == OPERATORS.keys()


@pytest.mark.parametrize(("kind", "shapes", "options"), CASES)
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_the_function_stays(
    kind: str, shapes: list[tuple[int, ...]], options: dict[str, Any], seed: int
) -> None:
    arrays = arrays_of(shapes)
    expected = OPERATORS[kind](*arrays, **options)
    y = reordered(seed)[kind](*arrays, **options)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("kind", "shapes", "options"), CASES)
def test_the_bits_do_not(kind: str, shapes: list[tuple[int, ...]], options: dict[str, Any]) -> None:
    arrays = [array.astype(np.float32) for array in arrays_of(shapes)]
    plain = OPERATORS[kind](*arrays, **options)
    others = [reordered(seed)[kind](*arrays, **options) for seed in range(1, 6)]
    assert {y.dtype for y in others} == {np.dtype(np.float32)}
    assert any((y != plain).any() for y in others)
    for y in others:
        np.testing.assert_allclose(y, plain, rtol=1e-3, atol=1e-5)


def test_a_maximum_stays_to_the_bit() -> None:
    x = RANDOM.standard_normal((1, 5, 6, 2)).astype(np.float32)
    options: dict[str, Any] = {"pool": (3, 2), "stride": (2, 1), "pad": (1, 0, 0, 1)}
    np.testing.assert_array_equal(
        reordered()["pool"](x, **options), OPERATORS["pool"](x, **options)
    )


@pytest.mark.parametrize(("kind", "shapes", "options"), CASES)
def test_a_layer_alone_is_rounded_in_eight_orders(
    kind: str, shapes: list[tuple[int, ...]], options: dict[str, Any]
) -> None:
    arrays = arrays_of(shapes)
    count = 1 if kind == "convt" else len(shapes)
    names = [f"w{number}" for number in range(len(shapes) - count)]
    checkpoint = Checkpoint(
        dict(zip(names, arrays[count:], strict=True)),
        (Layer("a", kind, tuple(f"x{number}" for number in range(count)), tuple(names), options),),
        {},
        Origin(Path("net.mat"), "matconvnet"),
    )
    outputs = list(rounded(checkpoint, "a", arrays[:count]))
    assert len(outputs) == 8
    assert len({y.shape for y in outputs}) == 1
