"""The oracle on nets of many shapes: several inputs and outputs, shared tensors, one channel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Array, Checkpoint, Layer, Origin
from converters.errors import LayerError
from verify.oracle import execute, replay, run

RANDOM = np.random.default_rng(13)


def net(*layers: Layer, **tensors: Array) -> Checkpoint:
    return Checkpoint(tensors, layers, {}, Origin(Path("net.mat"), "matconvnet"))


# ---------------------------------------------------------------- failure paths


@pytest.mark.parametrize(
    ("layer", "shapes", "fault"),
    [
        (Layer("a", "crop", ("x", "y"), (), {"crop": (0, 0)}), [(2, 2, 1), (3, 2, 1)], "cannot be"),
        (Layer("a", "product", ("x", "y")), [(2, 2, 3), (2, 2, 2)], "shapes do not fit"),
        (Layer("a", "scale", ("x",), ("m",)), [(2, 2, 3)], "has hasBias but no bias"),
        (Layer("a", "scale", ("x",), ("m", "m")), [(2, 2, 4)], "shapes do not fit"),
        (Layer("a", "bilinearsampler", ("x", "y")), [(2, 2, 3), (3, 2, 2)], "a grid of 3 rows"),
        (Layer("a", "affinegrid", ("x",), (), {"Ho": 2, "Wo": 2}), [(1, 1, 5)], "not the 6 numb"),
        (Layer("a", "flatten", ("x",), (), {"axis": 4}), [(1, 1, 5)], "axis is 4"),
        (Layer("a", "concat", ("x", "y"), (), {"dim": 3}), [(2, 2, 1), (2, 3, 1)], "must match"),
    ],
)
def test_what_does_not_fit_is_the_layer_s(
    layer: Layer, shapes: list[tuple[int, ...]], fault: str
) -> None:
    feeds = {name: np.ones(shape) for name, shape in zip(layer.inputs, shapes, strict=True)}
    with pytest.raises(LayerError, match=re.escape(fault)) as caught:
        run(net(layer, m=np.ones((1, 1, 3))), feeds)
    assert list(caught.value.faults) == ["a"]


@pytest.mark.parametrize(
    ("layer", "fault"),
    [
        (Layer("a", "crop", ("x",)), "crop with 1 inputs and 0 weights: missing a required"),
        (Layer("a", "affinegrid", ("x",)), "missing a required argument: 'Ho'"),
        (Layer("a", "spnorm", ("x",)), "missing a required argument: 'param'"),
        (Layer("a", "scale", ("x", "x", "x"), ("m",)), "too many positional arguments"),
        (Layer("a", "bilinearsampler", ("x", "x"), ("m",)), "too many positional arguments"),
    ],
)
def test_counts_are_told_before_anything_runs(layer: Layer, fault: str) -> None:
    with pytest.raises(LayerError, match=re.escape(fault)):
        execute(net(layer, m=np.ones(3)), np.ones((2, 2, 3)))


# ---------------------------------------------------------------- whole nets


def test_layers_share_tensors_and_every_end_is_given() -> None:
    """Two images through the same filters; three layers that nothing reads."""
    checkpoint = net(
        Layer("left", "conv", ("a",), ("f", "b")),
        Layer("right", "conv", ("b_in",), ("f", "b")),
        Layer("difference", "sum", ("left", "right")),
        Layer("product", "product", ("left", "right")),
        Layer("again", "conv", ("left",), ("f", "b")),
        f=np.array([[2.0]]).reshape(1, 1, 1, 1),
        b=np.array([1.0]),
    )
    feeds = {"a": np.array([[3.0]])[..., None], "b_in": np.array([[10.0]])[..., None]}
    outputs = {name: y.item() for name, y in run(checkpoint, feeds).items()}
    assert outputs == {
        **{"a": 3, "b_in": 10, "left": 7, "right": 21},
        **{"difference": 28, "product": 147, "again": 15},
    }


def test_a_residual_of_the_input_itself() -> None:
    """The net's input is read by its first layer and by its last."""
    checkpoint = net(
        Layer("conv", "conv", ("input",), ("f",), {"pad": (1, 1, 1, 1)}),
        Layer("bnorm", "bnorm", ("conv",), ("m", "o", "s")),
        Layer("out", "sum", ("input", "bnorm")),
        f=np.zeros((3, 3, 1, 1)),
        m=np.ones(1),
        o=np.array([0.5]),
        s=np.array([[0.0, 2.0]]),
    )
    image = RANDOM.standard_normal((2, 4, 5, 1))
    np.testing.assert_array_equal(run(checkpoint, image)["out"], image + 0.5)


def test_squeeze_and_excitation() -> None:
    """A vector of the pooled map scales the map that it comes from."""
    checkpoint = net(
        Layer("mean", "pool", ("x",), (), {"pool": (2, 2), "method": "avg"}),
        Layer("gate", "sigmoid", ("mean",)),
        Layer("scaled", "scale", ("x", "gate"), (), {"hasBias": False}),
        Layer("out", "Axpy", ("gate", "x", "x")),
    )
    x = RANDOM.standard_normal((3, 2, 2, 4))
    outputs = run(checkpoint, x)
    gate = 1 / (1 + np.exp(-x.mean(axis=(1, 2), keepdims=True)))
    np.testing.assert_allclose(outputs["scaled"], x * gate, rtol=1e-12)
    np.testing.assert_allclose(outputs["out"], x * gate + x, rtol=1e-12)


def test_a_spatial_transformer_turns_its_image() -> None:
    """Row and column change places: the transposed image."""
    checkpoint = net(
        Layer("theta", "conv", ("x",), ("w", "b")),
        Layer("grid", "affinegrid", ("theta",), (), {"Ho": 3, "Wo": 3}),
        Layer("turned", "bilinearsampler", ("x", "grid")),
        w=np.zeros((3, 3, 2, 6)),
        b=np.array([0.0, 1, 1, 0, 0, 0]),
    )
    x = RANDOM.standard_normal((2, 3, 3, 2))
    outputs = run(checkpoint, x)
    assert outputs["grid"].shape == (2, 2, 3, 3)
    np.testing.assert_allclose(outputs["turned"], x.transpose(0, 2, 1, 3), atol=1e-12)


def test_a_skip_connection_of_fcn() -> None:
    """Scores of half the size, drawn large by bilinear filters and cropped to the image."""
    taps = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]).reshape(4, 4, 1, 1)
    checkpoint = net(
        Layer("half", "pool", ("x",), (), {"pool": (2, 2), "stride": (2, 2), "method": "avg"}),
        Layer("large", "convt", ("half",), ("f",), {"upsample": (2, 2)}),
        Layer("out", "crop", ("large", "x"), (), {"crop": (1, 1)}),
        f=taps,
    )
    y = run(checkpoint, np.ones((1, 6, 8, 1)))["out"]
    assert y.shape == (1, 6, 8, 1)
    np.testing.assert_allclose(y[0, 1:-1, 1:-1], 1.0)
    np.testing.assert_allclose(y[0, 0, :, 0], [0.5625, *[0.75] * 6, 0.5625])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_of_several_inputs_alone(dtype: Any) -> None:
    checkpoint = net(
        Layer("theta", "flatten", ("t",), (), {"axis": 3}),
        Layer("grid", "UniformScalingGridGenerator", ("theta",), (), {"Ho": 2, "Wo": 2}),
        Layer("out", "bilinearsampler", ("x", "grid")),
    )
    feeds = {"t": np.array([1.0, 0, 0]).reshape(1, 1, 3), "x": RANDOM.standard_normal((2, 2, 3))}
    outputs = run(checkpoint, feeds, dtype)
    for layer in checkpoint.layers:
        y = replay(checkpoint, layer.name, [outputs[name] for name in layer.inputs], dtype)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, outputs[layer.name])


def test_vectors_among_maps_are_maps_of_one_pixel() -> None:
    checkpoint = net(
        Layer("vector", "layerTotalAvgPool", ("x",)),
        Layer("twice", "concat", ("vector", "vector"), (), {"dim": 3}),
        Layer("map", "product", ("x", "vector")),
    )
    x = RANDOM.standard_normal((2, 3, 4, 5))
    outputs = run(checkpoint, x)
    assert outputs["vector"].shape == (2, 5)
    assert outputs["twice"].shape == (2, 10)
    np.testing.assert_allclose(outputs["map"], x * x.mean(axis=(1, 2))[:, None, None])
