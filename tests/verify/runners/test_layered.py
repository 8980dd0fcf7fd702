"""Runs and replays of a net that NumPy computes, and the order of its layers."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.errors import ConversionError, LayerError
from verify.names.canonical import IMAGE
from verify.runners.layered import Images, Layered, in_order, sources, weights_only

Array = NDArray[Any]
PATH = Path("net")
READS = {
    "sum": ("left", "right"),
    "right": ("input",),
    "left": ("input",),
    "input": ("image",),
    "vlad:core": ("sum",),
}


def step(layer: str, inputs: Sequence[Array]) -> Array:
    first = inputs[0]
    if layer == "vlad:core":  # as [N, D, K]
        turned: Array = first.sum(axis=1).transpose(0, 2, 1)
        return turned
    if layer == "sum":
        return np.subtract(first, inputs[1])
    return first - 1 if layer == "input" else {"left": 2, "right": 3}[layer] * first


def net(**facts: Any) -> Layered:
    return Layered(
        **{
            "kind": "onnx",
            "path": PATH,
            "reads": READS,
            "takes": Images((None, None, None, 2)),
            "step": step,
            "stored": dict,
            "whole": lambda given: {"vlad:core": given[IMAGE][:, 0], "sum": given[IMAGE]},
            "axes": {"vlad:core": "NDK"},
            **facts,
        }
    )


IMAGES = np.arange(24, dtype=np.uint8).reshape(1, 3, 4, 2)


def test_a_run_follows_the_graph() -> None:
    runner = net()
    assert runner.layers[0] == "input"
    assert set(runner.layers[1:3]) == {"left", "right"}
    assert runner.layers[3:] == ("sum", "vlad:core")
    found = dict(runner.run(IMAGES))
    assert tuple(found) == runner.layers
    right = 1 - IMAGES.astype(np.float32)
    np.testing.assert_array_equal(found["sum"], right)
    np.testing.assert_array_equal(found["vlad:core"], right.sum(1)[:, None])


def test_values_are_dropped_once_nobody_reads_them() -> None:
    alive: dict[str, Any] = {}
    for layer, output in net().run(IMAGES):
        alive[layer] = weakref.ref(output)
        del output
        if layer == "vlad:core":
            assert alive["input"]() is None
            assert alive["left"]() is None


def test_a_replay_takes_what_the_layer_reads() -> None:
    runner = net()
    one = np.ones((1, 3, 4, 2), np.float32)
    np.testing.assert_array_equal(runner.replay("sum", [3 * one, one]), 2 * one)
    np.testing.assert_array_equal(runner.replay("input", [one.astype(np.uint8)]), 0 * one)
    assert runner.replay("vlad:core", [one]).shape == (1, 1, 4, 2)
    with pytest.raises(LayerError, match="sum: reads left, right; 1 inputs were given"):
        runner.replay("sum", [one])
    with pytest.raises(ConversionError, match="net: there is no layer 'conv1_1'"):
        runner.replay("conv1_1", [one])


def test_users_outputs_come_in_order_and_in_captures_axes() -> None:
    found = net().deployed(np.zeros((1, 5, 4, 2)))
    assert tuple(found) == ("sum", "vlad:core")
    assert found["vlad:core"].shape == (1, 1, 2, 4)


def test_what_a_library_raises_names_the_layer() -> None:
    def broken(layer: str, inputs: Sequence[Array]) -> Array:
        if layer == "left":
            raise RuntimeError("no kernel\nand a long trace")
        return step(layer, inputs)

    with pytest.raises(LayerError) as caught:
        list(net(step=broken).run(IMAGES))
    assert caught.value.faults == {"left": "RuntimeError: no kernel"}

    def broken_whole(given: Mapping[str, Array]) -> dict[str, Array]:
        raise RuntimeError("no kernel")

    with pytest.raises(ConversionError, match="net: cannot be run: RuntimeError: no kernel"):
        net(whole=broken_whole).deployed(IMAGES)


def test_an_empty_output_is_a_fault() -> None:
    nothing = np.zeros((1, 0, 4, 2), np.float32)
    with pytest.raises(LayerError, match=r"left: its output is empty, \(1, 0, 4, 2\)"):
        net().replay("left", [nothing])


def test_a_layer_that_reads_itself_is_refused() -> None:
    with pytest.raises(LayerError, match="depends on its own output"):
        in_order(PATH, {"a": ("b",), "b": ("a",)})


def test_sources_end_at_layers_and_come_in_the_order_read() -> None:
    graph = {"out": ["x", "b"], "x": ["b", "y"], "y": ["a", "y0"], "a": ["z"], "z": [], "b": []}
    named = {"a": "A", "b": "B", "z": "Z"}
    assert sources("out", named, lambda value: graph.get(value, [])) == ("B", "A")
    assert sources("a", named, lambda value: graph.get(value, [])) == ("Z",)


@pytest.mark.parametrize(
    ("shape", "axes", "takes"),
    [
        ((None, None, None, 3), "NHWC", (None, None, None, 3)),
        ((None, 3, None, None), "NCHW", (None, None, None, 3)),
        ((2, 3, 40, 52), "NCHW", (2, 40, 52, 3)),
        ((2, 40, 52, 3), "NHWC", (2, 40, 52, 3)),
        ((1, 3, 5, 3), "NHWC", (1, 3, 5, 3)),
        ((None, 1, 28, 28), "NCHW", (None, 28, 28, 1)),
        (None, "NHWC", (None,) * 4),
        ((None,), "NHWC", (None,) * 4),
    ],
)
def test_how_images_lie_is_told_by_their_channels(
    shape: tuple[int | None, ...] | None, axes: str, takes: tuple[int | None, ...]
) -> None:
    assert Images.lying(shape, "float32") == (Images(takes, "float32"), axes)


@pytest.mark.parametrize(
    ("dtype", "given", "words"),
    [
        ("float32", np.zeros((3, 4, 2)), "any×any×any×2, these are"),
        ("float32", np.zeros((1, 3, 4, 3)), "any×any×any×2, these are"),
        ("uint8", np.full((1, 3, 4, 2), 0.5), "takes uint8"),
        ("uint8", np.full((1, 3, 4, 2), -1), "takes uint8"),
        ("uint8", np.full((1, 3, 4, 2), 256), "takes uint8"),
        ("uint8", np.full((1, 3, 4, 2), 255.0), ""),
        ("float32", np.full((1, 3, 4, 2), 255, np.uint8), ""),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_images_are_never_changed_to_fit(dtype: str, given: Array, words: str) -> None:
    takes = Images((None, None, None, 2), dtype)
    if words:
        with pytest.raises(ConversionError, match=words):
            takes.fitted(given)
    else:
        assert takes.fitted(given).dtype == np.dtype(dtype)
        np.testing.assert_array_equal(takes.fitted(given), given)


def test_weights_alone_run_nothing() -> None:
    runner = weights_only("weights", PATH, lambda: {"a": np.ones(1)}, ("a note",))
    assert (runner.layers, runner.notes, list(runner.weights())) == ((), ("a note",), ["a"])
    assert list(runner.run(IMAGES)) == []
    assert runner.deployed(IMAGES) == {}
    with pytest.raises(ConversionError, match="no layer"):
        runner.replay("input", [])
