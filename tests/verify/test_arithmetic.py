"""A file in float16: only what is declared may be rounded, and only as it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import Checkpoint, Layer, Origin
from verify.arithmetic import FLOAT16, FLOAT32, KEPT, Arithmetic
from verify.declared import quantised, rounded
from verify.operators import OPERATORS
from verify.tensors import bit_for_bit

Array = NDArray[Any]
KERNEL = np.random.RandomState(0).uniform(-1, 1, (3, 3, 2, 4)).astype(np.float32)
TOWARDS_ZERO = (KERNEL.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float16)


@dataclass
class Holder:
    held: dict[str, Array]
    kind: str = "onnx"
    notes: tuple[str, ...] = field(default=())

    def weights(self) -> dict[str, Array]:
        return self.held


@pytest.mark.parametrize(
    ("arithmetic", "found", "passes"),
    [
        (FLOAT32, KERNEL, True),
        (FLOAT32, KERNEL.astype(np.float16), False),  # not declared
        (FLOAT16, KERNEL.astype(np.float16), True),
        (FLOAT16, KERNEL, True),  # a layer that is kept
        (FLOAT16, TOWARDS_ZERO, False),
        (FLOAT16, KERNEL.astype(np.float16).astype(np.float32), False),
        (FLOAT16, np.nextafter(KERNEL.astype(np.float16), np.float16(9)), False),
    ],
)
def test_weights_are_the_sources_or_rounded_to_nearest(
    arithmetic: Arithmetic, found: Array, passes: bool
) -> None:
    holder: Any = Holder({"conv/kernel": found})
    (result,) = bit_for_bit({"conv/kernel": KERNEL}, holder, arithmetic)
    assert result.passed is passes


@pytest.mark.parametrize(
    ("lines", "half", "int8"),
    [
        ([], set(), set()),
        (["rounded to float16: model_fp16.onnx"], {"model_fp16.onnx"}, set()),
        (["quantised to int8: model_int8.onnx"], set(), {"model_int8.onnx"}),
        (["rounded from float64 to float32: conv1/kernel"], set(), set()),
    ],
)
def test_only_what_the_manifest_says_is_rounded(
    lines: list[str], half: set[str], int8: set[str]
) -> None:
    assert rounded({"transformations": lines}) == half
    assert quantised({"transformations": lines}) == int8


def checkpoint(kind: str, **options: object) -> Checkpoint:
    layers = (
        Layer("first", "conv", ("image",), ("kernel",)),
        Layer("second", kind, ("first",), (), options),
        Layer("third", "normalize", ("second",), (), {"param": (8.0, 1e-12, 1.0, 0.5)}),
    )
    return Checkpoint({"kernel": KERNEL}, layers, {}, Origin(Path("x.mat"), "matconvnet"))


def test_a_kept_layer_costs_what_float32_costs() -> None:
    net = checkpoint("normalize", param=(8.0, 1e-12, 1.0, 0.5))
    x = np.random.RandomState(1).uniform(-300, 300, (1, 4, 4, 4)).astype(np.float32)
    (held,) = FLOAT16.held(net, net.layers[1], [x])
    np.testing.assert_array_equal(held, x.astype(np.float16).astype(np.float32))  # conv rounds it
    assert FLOAT16.held(net, net.layers[2], [x])[0] is x  # nothing that makes it rounds
    own = FLOAT16.alone(net, net.layers[1], [held])
    assert own.rounding < 1e-6 * own.largest


def test_a_rounded_layer_costs_what_float16_costs() -> None:
    net = checkpoint("relu")
    x = np.random.RandomState(1).uniform(-1, 1, (1, 5, 5, 2)).astype(np.float32)
    (held,) = FLOAT16.held(net, net.layers[0], [x])
    own = FLOAT16.alone(net, net.layers[0], [held])
    assert 2**-12 * own.largest <= own.rounding < 2**-10 * own.largest
    assert FLOAT32.alone(net, net.layers[0], [x]).rounding < 1e-6 * own.largest


def test_the_oracle_in_float16_hands_on_what_float16_holds() -> None:
    net = checkpoint("relu")
    found = dict(FLOAT16.execute(net, np.random.RandomState(1).uniform(-1, 1, (1, 5, 5, 2))))
    for name in ("first", "second"):
        np.testing.assert_array_equal(found[name], found[name].astype(np.float16))
    assert (found["third"] != found["third"].astype(np.float16)).any()


def test_every_kind_that_is_kept_is_one_that_there_is() -> None:
    assert OPERATORS.keys() >= KEPT
