"""Which size is the smallest, against known nets and against what the oracle runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Checkpoint, Layer, Origin
from converters.errors import ConversionError, LayerError
from converters.readers import matconvnet
from verify.oracle import run
from verify.sizes import smallest_size


def net(*layers: Layer, size: Any = (), **tensors: tuple[int, ...]) -> Checkpoint:
    zeros = {name: np.zeros(shape) for name, shape in tensors.items()}
    return Checkpoint(zeros, layers, {"imageSize": size}, Origin(Path("net.mat"), "matconvnet"))


def pooled(name: str, before: str, size: int = 2, stride: int = 2, **options: Any) -> Layer:
    return Layer(
        name, "pool", (before,), (), {"pool": (size, size), "stride": (stride, stride), **options}
    )


# ---------------------------------------------------------------- failure paths


def test_a_source_without_layers_takes_nothing() -> None:
    with pytest.raises(ConversionError, match=r"net\.mat: holds no layers that read an input"):
        smallest_size(net())


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        (
            [Layer("a", "conv", ("x",), ("f",)), Layer("b", "conv", ("a",), ("f",))],
            "b: 7 filters of",
        ),
        ([Layer("a", "conv", ("x",), ("g",))], "a: 'g'"),
        ([Layer("a", "pool", ("x",))], "a: 'pool'"),
        ([pooled("a", "x"), Layer("b", "sum", ("x", "a"))], "b: its inputs differ: 512, 1024"),
        ([pooled("a", "x"), Layer("b", "crop", ("a", "x"))], "b: 512 cannot be cropped to 1024"),
    ],
    ids=["depths", "no weight", "no setting", "sum", "crop"],
)
def test_a_net_that_no_size_fits(layers: list[Layer], fault: str) -> None:
    with pytest.raises(ConversionError) as caught:
        smallest_size(net(*layers, f=(3, 3, 5, 7)))
    assert "no x up to 1024×1024 gets through every layer" in str(caught.value)
    assert fault in str(caught.value)


# ---------------------------------------------------------------- literal nets


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([Layer("a", "relu", ("x",))], (1, 1)),
        ([Layer("a", "conv", ("x",), ("f",))], (5, 3)),
        ([Layer("a", "conv", ("x",), ("f",), {"dilate": (2, 4)})], (9, 9)),
        ([Layer("a", "conv", ("x",), ("f",), {"pad": (1, 2, 0, 1)})], (2, 2)),
        ([Layer("a", "conv", ("x",), ("f",), {"pad": (9, 9, 9, 9)})], (1, 1)),
        ([pooled("a", "x"), pooled("b", "a")], (4, 4)),
        ([pooled("a", "x", 3, 2, pad=(0, 1, 0, 0)), pooled("b", "a", 3, 2)], (6, 7)),
        ([pooled("a", "x"), Layer("b", "conv", ("a",), ("f",))], (10, 6)),
        # 5 × 3 taps at steps of 2 and 1: 2 (h - 1) + 5 - 4, w - 1 + 3 - 4
        ([Layer("a", "convt", ("x",), ("t",), {"upsample": (2, 1), "crop": (4, 0, 2, 2)})], (1, 3)),
        # the halves must fit the whole again
        (
            [
                pooled("a", "x"),
                Layer("b", "convt", ("a",), ("u",), {"upsample": (2, 2)}),
                Layer("c", "sum", ("b", "x")),
            ],
            (2, 2),
        ),
        ([pooled("a", "x"), Layer("b", "concat", ("a", "a"), (), {"dim": 1}), pooled("c", "b")],
         (2, 4)),
        ([pooled("a", "x"), Layer("b", "crop", ("x", "a")), pooled("c", "b", 3, 1)], (6, 6)),
        ([pooled("a", "x"), Layer("b", "product", ("x", "v")), pooled("c", "b", 3, 1)], (3, 3)),
        # 4 × 4 × 7 numbers
        (
            [
                Layer("a", "conv", ("x",), ("s",)),
                Layer("b", "flatten", ("a",), (), {"axis": 3}),
                Layer("c", "conv", ("b",), ("w",)),
            ],
            (6, 6),
        ),
        ([pooled("a", "x", 9, 1), Layer("m", "Mine", ("a",)), pooled("b", "m", 50)], (9, 9)),
        # the grid decides what comes after the sampler
        (
            [
                Layer("g", "affinegrid", ("theta",), (), {"Ho": 8, "Wo": 8}),
                Layer("s", "bilinearsampler", ("x", "g")),
                pooled("a", "s", 8, 8),
            ],
            (1, 1),
        ),
    ],
)  # fmt: skip
def test_smallest(layers: list[Layer], expected: tuple[int, int]) -> None:
    checkpoint = net(
        *layers,
        f=(5, 3, 2, 7),
        s=(3, 3, 2, 7),
        t=(5, 3, 4, 2),
        u=(2, 2, 2, 2),
        w=(1, 1, 112, 2),
    )
    assert smallest_size(checkpoint) == expected


def test_a_fixed_size_that_is_no_square_is_the_stated_one() -> None:
    layers = (
        Layer("a", "conv", ("in",), ("f",)),
        Layer("b", "flatten", ("a",), (), {"axis": 3}),
        Layer("c", "conv", ("b",), ("w",)),
    )
    weights = {"f": (1, 1, 3, 1), "w": (1, 1, 24, 2)}
    assert smallest_size(net(*layers, size=(4.0, 6.0, 3.0), **weights)) == (4, 6)
    with pytest.raises(ConversionError, match="c: 2 filters of depth 24 for 1048576 channels"):
        smallest_size(net(*layers, **weights))


def test_the_largest_of_several_inputs_counts() -> None:
    checkpoint = net(pooled("a", "x", 4), pooled("b", "y", 7), Layer("c", "sum", ("a", "b")))
    assert smallest_size(checkpoint) == (7, 7)


# ---------------------------------------------------------------- real nets


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("fixtures/caffe_struct.mat", (23, 23)),
        ("netvlad/vd16_white64_classes_v7.mat", (16, 16)),
        ("matconvnet/DnCNN_sigma25.mat", (1, 1)),
        ("matconvnet/LapSRN_x2.mat", (1, 1)),
    ],
)
def test_real_nets(source: str, expected: tuple[int, int], shared_data: Path) -> None:
    if "classes" in source:
        pytest.importorskip("matio", reason="mat-io decodes class objects")
    assert smallest_size(matconvnet.read(shared_data / source)) == expected


def test_one_pixel_less_does_not_run(shared_data: Path) -> None:
    checkpoint = matconvnet.read(shared_data / "fixtures/caffe_struct.mat")
    run(checkpoint, np.zeros((23, 23, 3)))
    for shape in [(22, 23, 3), (23, 22, 3)]:
        with pytest.raises(LayerError, match="is larger than its input"):
            run(checkpoint, np.zeros(shape))
