"""Every format of this project against the oracle: layers, replays, weights, descriptors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.errors import ConversionError, LayerError

pytest.importorskip("tensorflow")

Array = NDArray[Any]
Opened = Callable[[str, str], Any]

RUN = ("model.keras", "model.h5", "saved_model", "model.onnx", "fixed.onnx")
KINDS = {
    "model.keras": "keras",
    "model.h5": "h5",
    "saved_model": "savedmodel",
    "model.onnx": "onnx",
    "fixed.onnx": "onnx",
    "model.weights.h5": "weights",
}
MINI = """
    input conv1_1 relu1_1 conv1_2 pool1 relu1_2 conv2_1 relu2_1 conv2_2 pool2 relu2_2
    conv3_1 relu3_1 conv3_2 relu3_2 conv3_3 pool3 relu3_3
    conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 pool4 relu4_3
    conv5_1 relu5_1 conv5_2 relu5_2 conv5_3 preL2 vlad:core vlad:intranorm postL2 WPCA finalL2
"""
LAYERS = {
    "mini": tuple(MINI.split()),
    "grouped": (
        *("input", "conv1", "pool1", "relu1", "norm1", "conv2", "relu2", "conv3"),
        *("preL2", "vlad:core", "postL2"),
    ),
    "maximum": ("input", "conv1", "max:core", "postL2", "WPCA", "finalL2"),
}
CASES = [(net, file) for net in LAYERS for file in RUN]


def assert_near(found: Array, expected: Array, layer: str) -> None:
    assert found.shape == expected.shape, layer
    assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max(), layer


@pytest.mark.parametrize("file", KINDS)
def test_the_kind_is_told_by_the_name(runner: Opened, file: str) -> None:
    assert runner("mini", file).kind == KINDS[file]


@pytest.mark.parametrize(("net", "file"), CASES)
def test_a_run_is_the_oracles_layer_by_layer(
    nets: dict[str, Any], runner: Opened, net: str, file: str
) -> None:
    opened = runner(net, file)
    assert opened.layers == LAYERS[net]
    assert opened.notes == ()
    names = []
    for layer, found in opened.run(nets[net].images):
        assert_near(found, nets[net].run[layer], layer)
        names.append(layer)
    assert tuple(names) == LAYERS[net]


@pytest.mark.parametrize(("net", "file"), CASES)
def test_each_layer_alone_is_the_oracles(
    nets: dict[str, Any], runner: Opened, net: str, file: str
) -> None:
    opened = runner(net, file)
    for layer in LAYERS[net][1:]:
        assert_near(opened.replay(layer, nets[net].inputs(layer)), nets[net].replay(layer), layer)
    images = nets[net].images
    for given in (images, images.astype(np.float32)):
        assert_near(opened.replay("input", [given]), nets[net].run["input"], "input")


@pytest.mark.parametrize(("net", "file"), [*CASES, *((net, "model.weights.h5") for net in LAYERS)])
def test_the_weights_are_the_sources_bit_for_bit(
    nets: dict[str, Any], runner: Opened, net: str, file: str
) -> None:
    found = runner(net, file).weights()
    expected = nets[net].weights
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array, name, strict=True)


@pytest.mark.parametrize(("net", "file"), CASES)
def test_what_users_get_is_the_last_layer(
    nets: dict[str, Any], runner: Opened, net: str, file: str
) -> None:
    opened = runner(net, file)
    found = opened.deployed(nets[net].images)
    assert tuple(found) == LAYERS[net][-1:]
    assert_near(found[LAYERS[net][-1]], nets[net].run[LAYERS[net][-1]], "descriptor")


@pytest.mark.parametrize("file", RUN)
def test_layers_read_what_stands_before_them(runner: Opened, file: str) -> None:
    opened = runner("mini", file)
    before = ("image", *LAYERS["mini"])
    assert opened.reads == {layer: (before[index],) for index, layer in enumerate(LAYERS["mini"])}


@pytest.mark.parametrize("file", RUN)
def test_a_layer_that_is_not_there_is_named(runner: Opened, file: str) -> None:
    with pytest.raises(ConversionError, match="no layer 'conv6_1'"):
        runner("mini", file).replay("conv6_1", [])


@pytest.mark.parametrize("file", RUN)
@pytest.mark.parametrize(
    "inputs", [[], [np.zeros((1, 1, 7, 5), np.float32)], [np.zeros((2, 3), np.float32)]]
)
def test_inputs_that_do_not_fit_name_the_layer(
    runner: Opened, file: str, inputs: list[Array]
) -> None:
    with pytest.raises(LayerError) as caught:
        runner("mini", file).replay("conv4_1", inputs)
    assert set(caught.value.faults) == {"conv4_1"}


@pytest.mark.parametrize(
    ("file", "images", "words"),
    [
        ("model.keras", np.zeros((1, 40, 52, 4), np.uint8), "any×any×any×3"),
        ("saved_model", np.zeros((40, 52, 3), np.uint8), "any×any×any×3"),
        ("model.onnx", np.zeros((1, 40, 52, 1), np.uint8), "any×any×any×3"),
        ("fixed.onnx", np.zeros((2, 41, 52, 3), np.uint8), "2×40×52×3"),
        ("fixed.onnx", np.full((2, 40, 52, 3), 0.5, np.float32), "uint8"),
        ("fixed.onnx", np.full((2, 40, 52, 3), 256.0, np.float32), "uint8"),
    ],
)
def test_images_that_it_does_not_take(runner: Opened, file: str, images: Array, words: str) -> None:
    opened = runner("mini", file)
    with pytest.raises(ConversionError, match=words):
        next(opened.run(images))
    with pytest.raises(ConversionError, match=words):
        opened.deployed(images)


@pytest.mark.parametrize("file", ["model.keras", "model.h5", "saved_model"])
def test_a_layer_without_an_output_is_named(runner: Opened, file: str) -> None:
    with pytest.raises(LayerError, match="pool4: its output is empty"):
        list(runner("mini", file).run(np.zeros((2, 8, 8, 3), np.uint8)))
