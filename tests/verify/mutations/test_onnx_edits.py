"""Faults made in a faithful ONNX file by editing its graph; its weights are right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converters.convert import weights_of
from converters.mini import mini

Edit = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`edit` changes the ModelProto; the rest as in the other tables."""

    name: str
    layer: str
    cause: str
    edit: Edit
    source: str = "mini"
    tensor: str = ""


def node(model: Any, name: str) -> Any:
    return next(each for each in model.graph.node if each.name == name)


def attributes(name: str, **values: Any) -> Edit:
    """An operator's attributes; None takes one away."""

    def edit(model: Any) -> None:
        found = node(model, name)
        kept = [a for a in found.attribute if a.name not in values]
        new = [helper.make_attribute(k, v) for k, v in values.items() if v is not None]
        del found.attribute[:]
        found.attribute.extend([*kept, *new])

    return edit


def operator(name: str, kind: str, **values: Any) -> Edit:
    """Another operator in its place."""

    def edit(model: Any) -> None:
        node(model, name).op_type = kind
        attributes(name, **values)(model)

    return edit


def reads(name: str, *inputs: str) -> Edit:
    def edit(model: Any) -> None:
        node(model, name).input[:] = inputs

    return edit


def initializer(name: str, value: Any) -> Edit:
    """A new constant in the place of an operator's last input."""

    def edit(model: Any) -> None:
        constant = numpy_helper.from_array(np.asarray(value), f"{name}/edited")
        model.graph.initializer.append(constant)
        node(model, name).input[-1] = constant.name

    return edit


def behind(value: str, *operators: tuple[str, dict[str, Any]]) -> Edit:
    """More operators behind a layer: the last of them carries its name."""

    def edit(model: Any) -> None:
        nodes = list(model.graph.node)
        at = next(i for i, each in enumerate(nodes) if value in each.output)
        inner = f"{value}/0"
        nodes[at].output[:] = [inner if name == value else name for name in nodes[at].output]
        new = []
        for number, (kind, values) in enumerate(operators, 1):
            constants = [
                numpy_helper.from_array(np.asarray(v), f"{value}/{number}/{k}")
                for k, v in values.items()
                if k == "constant"
            ]
            model.graph.initializer.extend(constants)
            output = value if number == len(operators) else f"{value}/{number}"
            plain = {k: v for k, v in values.items() if k != "constant"}
            inputs = [inner, *(c.name for c in constants)]
            new.append(helper.make_node(kind, inputs, [output], f"{value}/more_{number}", **plain))
            inner = output
        del model.graph.node[:]
        model.graph.node.extend([*nodes[: at + 1], *new, *nodes[at + 1 :]])

    return edit


def names_exchanged(first: str, second: str) -> Edit:
    """Two values carry each other's names."""

    def edit(model: Any) -> None:
        names = {first: second, second: first}
        for each in model.graph.node:
            each.input[:] = [names.get(name, name) for name in each.input]
            each.output[:] = [names.get(name, name) for name in each.output]

    return edit


def stated_exchanged(first: str, second: str) -> Edit:
    """The metadata say of two layers that each is the other's value."""

    def edit(model: Any) -> None:
        (values,) = (e for e in model.metadata_props if e.key == "values")
        stated = json.loads(values.value)
        values.value = json.dumps({**stated, first: second, second: first})

    return edit


def removed(name: str) -> Edit:
    """An operator is left out, and no metadata speak of it."""

    def edit(model: Any) -> None:
        gone = node(model, name)
        for each in model.graph.node:
            each.input[:] = [gone.input[0] if x in gone.output else x for x in each.input]
        model.graph.node.remove(gone)
        layer = gone.output[0]
        (layouts,) = (e for e in model.metadata_props if e.key == "layouts")
        axes = json.loads(layouts.value)
        layouts.value = json.dumps({k: v for k, v in axes.items() if k != layer})

    return edit


def lost(name: str) -> Edit:
    """A weight is not in the file."""

    def edit(model: Any) -> None:
        model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == name))

    return edit


def all_of(*edits: Edit) -> Edit:
    def edit(model: Any) -> None:
        for each in edits:
            each(model)

    return edit


SHUFFLED = np.random.RandomState(3).permutation(16)

FAULTS = [
    # windows
    Fault("a pool's pads moved by one", "pool2", "pads of 1, 0, 1, 0 in place of 0, 0, 0, 0", attributes("pool2/MaxPool", pads=[1, 1, 0, 0])),
    Fault("ceil_mode", "pool1", "ceil_mode", attributes("pool1/MaxPool", ceil_mode=1)),
    Fault("ceil_mode", "pool4", "ceil_mode", attributes("pool4/MaxPool", ceil_mode=1)),
    Fault("averages", "pool3", "the average in place of the maximum", operator("pool3/MaxPool", "AveragePool")),
    Fault("no pads", "pool1", "pads of 0, 0, 0, 0 in place of 0, 1, 0, 1", reads("pool1/MaxPool", "conv1"), "caffe"),
    Fault("a convolution's pads moved by one", "conv3_2", "pads of 0, 2, 0, 2 in place of 1, 1, 1, 1", attributes("conv3_2/Conv", auto_pad=None, pads=[0, 0, 2, 2])),
    Fault("a convolution without pads", "conv5_3", "pads of 0, 0, 0, 0 in place of 1, 1, 1, 1", attributes("conv5_3/Conv", auto_pad="VALID")),
    Fault("a dilated convolution", "conv4_1", "a dilation of 2", attributes("conv4_1/Conv", auto_pad=None, dilations=[2, 2], pads=[2, 2, 2, 2])),
    Fault("no bias", "conv2_1", "a missing bias: none is added", reads("conv2_1/Conv", "relu1_2", "conv2_1/kernel")),
    # relus
    Fault("a relu removed", "relu3_2", "", removed("relu3_2/Relu")),
    Fault("a relu that does nothing", "relu2_2", "passed on as it is", operator("relu2_2/Relu", "Identity")),
    Fault("a relu bypassed", "conv4_3", "reads conv4_2, in the source relu4_2", reads("conv4_3/Conv", "conv4_2", "conv4_3/kernel", "conv4_3/bias")),
    Fault("a leak", "relu5_1", "a leak of 0.01", operator("relu5_1/Relu", "LeakyRelu", alpha=0.01)),
    # whose output is whose
    Fault("two values' names exchanged", "conv3_2", "the names of conv3_2 and conv3_3 are exchanged", names_exchanged("conv3_2", "conv3_3")),
    Fault("two relus' names exchanged", "relu4_1", "the names of relu4_1 and relu4_2 are exchanged", names_exchanged("relu4_1", "relu4_2")),
    Fault("two layers exchanged in the metadata", "conv5_1", "the names of conv5_1 and conv5_2 are exchanged", stated_exchanged("conv5_1", "conv5_2")),
    Fault("the mean bypassed", "conv1_1", "reads image, in the source input", reads("conv1_1/Transpose", "image")),
    Fault("the descriptor in another order", "finalL2", "outputs swapped: 0, 1", behind("descriptor", ("Gather", {"constant": SHUFFLED, "axis": 1}))),
    Fault("the channels in another order", "conv3_1", "outputs swapped: 0, 1", behind("conv3_1", ("Gather", {"constant": np.r_[1, 0, 2:12], "axis": 1}))),
    Fault("height and width swapped", "conv5_3", "height and width", behind("conv5_3", ("Transpose", {"perm": [0, 1, 3, 2]}))),
    # head
    Fault("an epsilon of 1e-6", "preL2", "an epsilon of 1e-06 in place of 1e-12", initializer("preL2/Add", np.float32(1e-6))),
    Fault("no epsilon", "vlad:intranorm", "an epsilon of 0 in place of 1e-12", initializer("vlad:intranorm/Add", np.float32(0))),
    Fault("the residuals' sign", "vlad:core", "the sign of the centres", operator("vlad:core/Sub", "Add")),
    Fault("no residuals", "vlad:core", "no centres", reads("vlad:core/Unsqueeze_3", "vlad:core/MatMul_2", "constant_0")),
    Fault("softmax over the positions", "vlad:core", "the softmax over the positions", attributes("vlad:core/Softmax", axis=1)),
    Fault("intranorm by D fastest", "vlad:intranorm", "D fastest", behind("vlad:intranorm", ("Transpose", {"perm": [0, 1, 3, 2]}), ("Reshape", {"constant": np.array([-1, 1, 8, 16])}))),
    Fault("the vector by D fastest", "postL2", "D fastest", attributes("postL2/Transpose", perm=[0, 1, 2, 3])),
    Fault("no intranorm", "postL2", "reads vlad:core, in the source vlad:intranorm", reads("postL2/Transpose", "vlad:core")),
    Fault("divided by the square", "postL2", "a scale of", reads("postL2/Div", "postL2/Reshape", "postL2/Max")),
    Fault("no whitening's bias", "WPCA", "a missing bias", all_of(operator("WPCA/Add", "Identity"), reads("WPCA/Add", "WPCA/MatMul"), lost("WPCA/bias")), tensor="WPCA/bias"),
    Fault("a scale", "WPCA", "a scale of 2", behind("WPCA", ("Mul", {"constant": np.float32(2)}))),
    Fault("the descriptor's sign", "finalL2", "the sign of all values", behind("descriptor", ("Neg", {}))),
    Fault("no last norm", "finalL2", "passed on as it is", all_of(operator("finalL2/Div", "Identity"), reads("finalL2/Div", "WPCA"))),
    Fault("averages in place of maxima", "max:core", "the average in place of the maximum", operator("max:core/ReduceMax", "ReduceMean"), "maximum"),
    Fault("LRN's beta", "norm1", "LRN constants: 5, 1, 2e-05, 0.5", initializer("norm1/Pow", np.float32(0.5)), "caffe"),
    Fault("two groups' outputs swapped", "conv4", "the groups' outputs in another order", reads("conv4/Concat", "conv4/Conv_2", "conv4/Conv"), "caffe"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.layer}-{fault.name}")
def test_an_edited_graph_is_caught_and_charged(
    fault: Fault, maker: Any, judged: Callable[..., Any], charge: Callable[..., None]
) -> None:
    path = replace(maker, source=fault.source).make("onnx")
    model = onnx.load(path)
    fault.edit(model)
    onnx.save(model, path)
    charge(fault, "onnx", judged(path, fault.source))


def test_weights_in_a_stale_file_beside_the_graph(
    maker: Any, judged: Callable[..., Any], charge: Callable[..., None], tmp_path: Path
) -> None:
    """The graph was written anew, the file of its weights was not."""

    def other(weights: Any, spec: Any) -> None:
        weights.update({k: np.array(v) for k, v in weights_of(mini(7), spec).items()})

    places = {}
    for name, changed in {"new": maker, "old": replace(maker, plant=other)}.items():
        places[name] = tmp_path / name
        places[name].mkdir()
        model = onnx.load(replace(changed, folder=places[name]).make("onnx"))
        onnx.save(
            model,
            places[name] / "apart.onnx",
            save_as_external_data=True,
            location="apart.bin",
            size_threshold=256,
        )
    assert judged(places["new"] / "apart.onnx").passed
    shutil.copy(places["old"] / "apart.bin", places["new"] / "apart.bin")
    fault = Fault(
        "stale weights beside the graph",
        "conv1_1",
        "the weights of another net",
        lambda model: None,
        tensor="conv1_1/kernel",
    )
    charge(fault, "onnx", judged(places["new"] / "apart.onnx"))
