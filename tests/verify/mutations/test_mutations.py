"""Proof that the witness catches: planted faults, each with the layer and the cause it must name.

Every row states them literally. `nox -s mutations` prints the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import Checkpoint
from converters.convert import weights_of
from converters.mini import SPEC, seeded
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import Row

Array = NDArray[Any]
Weights = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row.

    plant    changes the weights in place, and may return another spec.
    rebuild  gives another model, or another `.mat` file's net.
    layer    the verdict's first bad layer; `tensor` and `cause` likewise, the
             cause by words that must stand in it, `""`: there is to be none.
    """

    name: str
    format: str
    layer: str
    tensor: str
    cause: str
    plant: Callable[[Weights, NetVLADSpec], NetVLADSpec | None] | None = None
    rebuild: Callable[[Any], Any] | None = None
    source: str = "mini"

    @property
    def changes(self) -> dict[str, Any]:
        """For the maker."""
        given = {"plant": self.plant, "rebuild": self.rebuild}
        return {"source": self.source, **{k: v for k, v in given.items() if v}}


def nudge(tensor: str, index: tuple[int, ...], part: float = 0.01) -> Callable[..., None]:
    """One weight by a part of its tensor's spread."""

    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor][index] += part * weights[tensor].std()

    return plant


def change(tensor: str, function: Callable[[Array], Array]) -> Callable[..., None]:
    """A whole tensor."""

    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor] = np.ascontiguousarray(function(weights[tensor]), np.float32)

    return plant


def swap_last(first: int, second: int, *tensors: str) -> Callable[..., None]:
    """Two outputs change places, in each of these tensors."""

    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        for tensor in tensors:
            values = weights[tensor]
            values[..., [first, second]] = values[..., [second, first]]

    return plant


def swap_tensors(first: str, second: str) -> Callable[..., None]:
    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[first], weights[second] = weights[second], weights[first]

    return plant


def one_filter_sign(tensor: str, index: int) -> Callable[..., None]:
    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor][..., index] *= -1

    return plant


def poison(tensor: str, index: tuple[int, ...]) -> Callable[..., None]:
    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor][index] = np.nan

    return plant


def d_fastest(weights: Weights, spec: NetVLADSpec) -> None:
    """WPCA's rows in the order k·D + d."""
    kernel = weights["WPCA/kernel"]
    rows = kernel.reshape(spec.feature_width, spec.clusters, -1).transpose(1, 0, 2)
    weights["WPCA/kernel"] = np.ascontiguousarray(rows.reshape(kernel.shape))


def other_weights(weights: Weights, spec: NetVLADSpec) -> None:
    checkpoint = seeded(SPEC, 77)
    weights.update({k: np.array(v) for k, v in weights_of(checkpoint, spec).items()})


def relu_before_pool(weights: Weights, spec: NetVLADSpec) -> NetVLADSpec:
    rows = list(spec.trunk)
    at = [row.name for row in rows].index("pool1")
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return replace(spec, trunk=tuple(rows))


def lrn(name: str, constants: tuple[float, ...]) -> Callable[..., NetVLADSpec]:
    def plant(weights: Weights, spec: NetVLADSpec) -> NetVLADSpec:
        def changed(row: Row) -> Row:
            return replace(row, lrn=constants) if row.name == name else row

        return replace(spec, trunk=tuple(changed(row) for row in spec.trunk))

    return plant


def epsilon(layer: str, value: float) -> Callable[[Any], Any]:
    def rebuild(model: Any) -> Any:
        model.get_layer(layer).epsilon = value
        return model

    return rebuild


def stated_epsilon(layer: str, value: float) -> Callable[[Any], Any]:
    """In a model that states its layers; ours states its spec, which has no epsilon."""

    def rebuild(model: Any) -> Any:
        model.get_layer(layer).epsilon = value
        return keras.Model(model.inputs, model.outputs)

    return rebuild


def settings(layer: str, **options: Any) -> Callable[[Checkpoint], Checkpoint]:
    """A layer's settings in a `.mat` file."""

    def rebuild(net: Checkpoint) -> Checkpoint:
        def changed(each: Any) -> Any:
            return replace(each, options={**each.options, **options})

        layers = (changed(each) if each.name == layer else each for each in net.layers)
        return replace(net, layers=tuple(layers))

    return rebuild


def half(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def transposed(values: Array) -> Array:
    return values.transpose(1, 0, 2, 3)


def io_swapped(values: Array) -> Array:
    return values.transpose(0, 1, 3, 2)


FAULTS = [
    # one weight, in every format and at every depth
    Fault("one weight", "onnx", "conv1_1", "conv1_1/kernel", "", nudge("conv1_1/kernel", (1, 2, 0, 3))),
    Fault("one weight", "onnx", "conv3_2", "conv3_2/kernel", "", nudge("conv3_2/kernel", (1, 2, 3, 7))),
    Fault("one weight", "keras", "conv5_3", "conv5_3/kernel", "", nudge("conv5_3/kernel", (0, 0, 9, 1))),
    Fault("one weight", "h5", "conv4_1", "conv4_1/kernel", "", nudge("conv4_1/kernel", (2, 2, 5, 15))),
    Fault("one weight", "savedmodel", "conv2_2", "conv2_2/kernel", "", nudge("conv2_2/kernel", (2, 0, 7, 0))),
    Fault("one weight", "onnx", "WPCA", "WPCA/kernel", "", nudge("WPCA/kernel", (100, 3))),
    Fault("one weight", "savedmodel", "WPCA", "WPCA/kernel", "", nudge("WPCA/kernel", (0, 0))),
    Fault("one assignment", "keras", "vlad:core", "vlad:core/assignment", "", nudge("vlad:core/assignment", (5, 5))),
    Fault("one centre's value", "onnx", "vlad:core", "vlad:core/centers", "", nudge("vlad:core/centers", (3, 2))),
    Fault("one bias value", "h5", "conv2_1", "conv2_1/bias", "", nudge("conv2_1/bias", (4,))),
    Fault("one weight", "weights", "conv3_1", "conv3_1/kernel", "", nudge("conv3_1/kernel", (0, 1, 2, 3))),
    Fault("one weight", "mat", "conv2_1", "conv2_1/kernel", "", nudge("conv2_1/kernel", (1, 1, 6, 2))),
    Fault("one weight", "tf_graph", "conv4_2", "conv4_2/kernel", "", nudge("conv4_2/kernel", (2, 0, 11, 5))),
    Fault("one weight", "tf_variables", "WPCA", "WPCA/kernel", "", nudge("WPCA/kernel", (17, 15))),
    Fault("one assignment", "tf_graph", "vlad:core", "vlad:core/assignment", "", nudge("vlad:core/assignment", (3, 1))),
    Fault("one value of the mean", "mat", "input", "input/mean", "mean", nudge("input/mean", (1,))),
    # biases
    Fault("bias zeroed", "onnx", "conv3_1", "conv3_1/bias", "bias", change("conv3_1/bias", np.zeros_like)),
    Fault("bias zeroed", "keras", "conv1_2", "conv1_2/bias", "bias", change("conv1_2/bias", np.zeros_like)),
    Fault("bias zeroed", "savedmodel", "WPCA", "WPCA/bias", "bias", change("WPCA/bias", np.zeros_like)),
    Fault("bias zeroed", "weights", "conv4_2", "conv4_2/bias", "bias", change("conv4_2/bias", np.zeros_like)),
    Fault("bias zeroed", "mat", "conv5_3", "conv5_3/bias", "bias", change("conv5_3/bias", np.zeros_like)),
    Fault("bias zeroed", "tf_graph", "WPCA", "WPCA/bias", "bias", change("WPCA/bias", np.zeros_like)),
    # order of outputs
    Fault("two filters swapped", "onnx", "conv2_2", "conv2_2/kernel", "swap", swap_last(1, 6, "conv2_2/kernel", "conv2_2/bias")),
    Fault("two filters swapped", "h5", "conv4_3", "conv4_3/kernel", "swap", swap_last(0, 15, "conv4_3/kernel", "conv4_3/bias")),
    Fault("two clusters swapped", "keras", "vlad:core", "vlad:core/assignment", "swap", swap_last(0, 7, "vlad:core/assignment", "vlad:core/centers")),
    Fault("two clusters swapped", "onnx", "vlad:core", "vlad:core/assignment", "swap", swap_last(2, 3, "vlad:core/assignment", "vlad:core/centers")),
    Fault("outputs swapped", "savedmodel", "WPCA", "WPCA/kernel", "swap", swap_last(4, 11, "WPCA/kernel", "WPCA/bias")),
    Fault("kernels of two layers swapped", "onnx", "conv5_1", "conv5_1/kernel", "the values of conv5_2/kernel", swap_tensors("conv5_1/kernel", "conv5_2/kernel")),
    Fault("kernels of two layers swapped", "keras", "conv4_2", "conv4_2/kernel", "the values of conv4_3/kernel", swap_tensors("conv4_2/kernel", "conv4_3/kernel")),
    Fault("two clusters swapped", "tf_graph", "vlad:core", "vlad:core/assignment", "swap", swap_last(0, 1, "vlad:core/assignment", "vlad:core/centers")),
    Fault("two clusters swapped", "mat", "vlad:core", "vlad:core/assignment", "swap", swap_last(5, 6, "vlad:core/assignment", "vlad:core/centers")),
    Fault("two filters swapped", "tf_variables", "conv3_2", "conv3_2/kernel", "swap", swap_last(3, 4, "conv3_2/kernel", "conv3_2/bias")),
    # axes
    Fault("H and W swapped", "onnx", "conv1_2", "conv1_2/kernel", "height", change("conv1_2/kernel", transposed)),
    Fault("H and W swapped", "h5", "conv5_2", "conv5_2/kernel", "height", change("conv5_2/kernel", transposed)),
    Fault("in and out swapped", "savedmodel", "conv2_1", "conv2_1/kernel", "axes", change("conv2_1/kernel", io_swapped)),
    Fault("kernel flipped", "keras", "conv3_3", "conv3_3/kernel", "180 degrees", change("conv3_3/kernel", lambda v: v[::-1, ::-1])),
    Fault("WPCA by D fastest", "onnx", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("WPCA by D fastest", "keras", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("H and W swapped", "weights", "conv2_2", "conv2_2/kernel", "height", change("conv2_2/kernel", transposed)),
    Fault("H and W swapped", "mat", "conv3_1", "conv3_1/kernel", "height", change("conv3_1/kernel", transposed)),
    Fault("H and W swapped", "tf_graph", "conv4_1", "conv4_1/kernel", "height", change("conv4_1/kernel", transposed)),
    Fault("H and W swapped", "tf_variables", "conv1_1", "conv1_1/kernel", "height", change("conv1_1/kernel", transposed)),
    Fault("WPCA by D fastest", "h5", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("WPCA by D fastest", "savedmodel", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("WPCA by D fastest", "weights", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("WPCA by D fastest", "mat", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("WPCA by D fastest", "tf_graph", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("WPCA by D fastest", "tf_variables", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    # signs
    Fault("one filter's sign", "onnx", "conv3_1", "conv3_1/kernel", "sign", one_filter_sign("conv3_1/kernel", 5)),
    Fault("one filter's sign", "savedmodel", "conv5_3", "conv5_3/kernel", "sign", one_filter_sign("conv5_3/kernel", 0)),
    Fault("the centres' sign", "h5", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    Fault("the centres' sign", "onnx", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    Fault("the centres' sign", "weights", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    Fault("the centres' sign", "mat", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    Fault("the centres' sign", "tf_graph", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    Fault("the centres' sign", "tf_variables", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    # colours and mean
    Fault("BGR", "onnx", "conv1_1", "conv1_1/kernel", "BGR", change("conv1_1/kernel", lambda v: v[:, :, ::-1])),
    Fault("BGR", "keras", "conv1_1", "conv1_1/kernel", "BGR", change("conv1_1/kernel", lambda v: v[:, :, ::-1])),
    Fault("mean shifted", "onnx", "input", "input/mean", "mean", change("input/mean", lambda v: v + 0.1)),
    Fault("mean shifted", "savedmodel", "input", "input/mean", "mean", change("input/mean", lambda v: v + 0.1)),
    Fault("mean in BGR", "h5", "input", "input/mean", "BGR", change("input/mean", lambda v: v[::-1])),
    Fault("no mean", "onnx", "input", "input/mean", "mean", change("input/mean", np.zeros_like)),
    Fault("BGR", "tf_graph", "conv1_1", "conv1_1/kernel", "BGR", change("conv1_1/kernel", lambda v: v[:, :, ::-1])),
    Fault("mean in BGR", "mat", "input", "input/mean", "BGR", change("input/mean", lambda v: v[::-1])),
    Fault("mean shifted", "tf_variables", "input", "input/mean", "mean", change("input/mean", lambda v: v + 0.1)),
    Fault("no mean", "weights", "input", "input/mean", "mean", change("input/mean", np.zeros_like)),
    # constants
    Fault("epsilon 1e-6", "onnx", "preL2", "", "epsilon", rebuild=epsilon("preL2", 1e-6)),
    Fault("epsilon 1e-6", "savedmodel", "vlad:intranorm", "", "epsilon", rebuild=epsilon("vlad.3Aintranorm", 1e-6)),
    Fault("epsilon 1e-6", "onnx", "postL2", "", "epsilon", rebuild=epsilon("postL2", 1e-6)),
    Fault("epsilon 1e-6", "savedmodel", "finalL2", "", "epsilon", rebuild=epsilon("finalL2", 1e-6)),
    Fault("epsilon 1e-6", "keras", "postL2", "", "epsilon of 1e-06 in place", rebuild=stated_epsilon("postL2", 1e-6)),
    Fault("epsilon 1e-6", "mat", "vlad:intranorm", "", "epsilon of 1e-06 in place", rebuild=settings("vlad:intranorm", param=(32.0, 1e-6, 1.0, 0.5))),
    Fault("a leak", "mat", "relu3_2", "", "a leak of 0.1", rebuild=settings("relu3_2", leak=0.1)),
    Fault("averages", "mat", "pool3", "", "the average in place of the maximum", rebuild=settings("pool3", method="avg")),
    Fault("pads moved", "mat", "conv4_3", "", "pads of 0, 2, 0, 2 in place of 1, 1, 1, 1", rebuild=settings("conv4_3", pad=(0, 2, 0, 2))),
    Fault("dilated", "mat", "conv2_2", "", "a dilation of 2", rebuild=settings("conv2_2", dilate=(2, 2), pad=(2, 2, 2, 2))),
    Fault("LRN's beta", "mat", "norm1", "", "LRN", rebuild=settings("norm1", param=(5.0, 1.0, 2e-5, 0.5)), source="caffe"),
    Fault("pool after relu", "mat", "pool1", "", "order", relu_before_pool),
    Fault("pool after relu", "savedmodel", "pool1", "", "order", relu_before_pool),
    Fault("pool after relu", "h5", "pool1", "", "order", relu_before_pool),
    Fault("pool after relu", "onnx", "pool1", "", "order", relu_before_pool),
    Fault("pool after relu", "keras", "pool1", "", "order", relu_before_pool),
    Fault("LRN's alpha", "onnx", "norm1", "", "LRN", lrn("norm1", (5, 1.0, 1e-4, 0.75)), source="caffe"),
    Fault("LRN's window", "keras", "norm2", "", "LRN", lrn("norm2", (3, 1.0, 2e-5, 0.75)), source="caffe"),
    Fault("one weight of a group", "onnx", "conv4", "conv4/kernel", "", nudge("conv4/kernel", (1, 1, 3, 40)), source="caffe"),
    # precision and provenance
    Fault("one layer in float16", "onnx", "conv4_1", "conv4_1/kernel", "float16", change("conv4_1/kernel", half)),
    Fault("one layer in float16", "h5", "WPCA", "WPCA/kernel", "float16", change("WPCA/kernel", half)),
    Fault("scaled", "savedmodel", "conv2_2", "conv2_2/kernel", "scale", change("conv2_2/kernel", lambda v: v * 1.001)),
    Fault("other weights", "onnx", "conv1_1", "conv1_1/kernel", "other", other_weights),
    Fault("other weights", "keras", "conv1_1", "conv1_1/kernel", "other", other_weights),
    Fault("other weights", "tf_variables", "conv1_1", "conv1_1/kernel", "other", other_weights),
    Fault("other weights", "tf_graph", "conv1_1", "conv1_1/kernel", "other", other_weights),
    Fault("one layer in float16", "tf_variables", "conv5_1", "conv5_1/kernel", "float16", change("conv5_1/kernel", half)),
    Fault("a NaN", "weights", "conv1_1", "conv1_1/bias", "", poison("conv1_1/bias", (0,))),
    Fault("a NaN", "tf_graph", "vlad:core", "vlad:core/centers", "", poison("vlad:core/centers", (1, 1))),
    Fault("a NaN", "onnx", "conv3_1", "conv3_1/kernel", "", poison("conv3_1/kernel", (0, 0, 0, 0))),
    Fault("a NaN", "savedmodel", "WPCA", "WPCA/bias", "", poison("WPCA/bias", (2,))),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.format}-{f.layer}-{f.name}")
def test_a_planted_fault_is_caught_and_charged(
    fault: Fault, maker: Any, judged: Callable[..., Any], charge: Callable[..., None]
) -> None:
    path = replace(maker, **fault.changes).make(fault.format)
    charge(fault, fault.format, judged(path, fault.source))


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(FAULTS) >= 70
    formats = {"keras", "h5", "weights", "savedmodel", "onnx", "mat", "tf_graph", "tf_variables"}
    assert {fault.format for fault in FAULTS} == formats
