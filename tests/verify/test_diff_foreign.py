"""`netvlad-verify diff` on files that share no names, from the command line to the exit code."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.errors import ConversionError
from verify.__main__ import main
from verify.formats import open_all

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")
tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1

Array = NDArray[Any]
RNG = np.random.default_rng(3)


def strange(source: Path, path: Path, changed: str = "") -> dict[str, str]:
    """Write an ONNX file of this project with all names n0000, n0001, ...; one weight `changed`.

    Returns the names that were there -> those that are.
    """
    model = onnx.load(source)
    del model.metadata_props[:]
    del model.graph.value_info[:]
    numbers = itertools.count()
    own: dict[str, str] = {}
    for tensor in model.graph.initializer:
        if tensor.name == changed:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.flat[7] += values.std()
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = own.setdefault(name, f"n{next(numbers):04}") if name else ""
    for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        value.name = own.setdefault(value.name, f"n{next(numbers):04}")
    onnx.save(model, path)
    return own


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("first", ["bad.onnx", "saved_model"])
def test_one_changed_weight_is_found_without_names(
    first: str, mini_artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = strange(mini_artifacts / "model.onnx", tmp_path / "bad.onnx", "conv3_2/kernel")
    bad = str(tmp_path / "bad.onnx")
    if first == "bad.onnx":
        assert main(["diff", bad, str(mini_artifacts / "model.keras")]) == 1
        assert said(capsys) == (
            f"different: first at {own['conv3_2']}, where the second artifact has conv3_2"
        )
    else:
        assert main(["diff", str(mini_artifacts / "saved_model"), bad]) == 1
        assert f"/conv3_2_1/convolution:0, where the second artifact has {own['conv3_2']}" in said(
            capsys
        )


def test_the_same_net_without_names(
    mini_artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = strange(mini_artifacts / "model.onnx", tmp_path / "strange.onnx")
    assert main(["diff", str(tmp_path / "strange.onnx"), str(mini_artifacts / "saved_model")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    pairs = {line[0]: line[2] for line in lines if len(line) == 8}
    layers = ("input", "conv1_1", "relu3_3", "conv5_3", "preL2", "vlad:intranorm", "WPCA")
    assert {layer: pairs[own[layer]] for layer in layers} == {layer: layer for layer in layers}
    assert pairs[own["descriptor"]] == "finalL2"
    assert " ".join(lines[-1]).startswith("the same within 0.0001: 1 output and ")


def onnx_model(
    path: Path, nodes: Sequence[Any], weights: Mapping[str, Array], outputs: int
) -> Path:
    value = onnx.helper.make_tensor_value_info
    number = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [value("x", number, [1, 3, "h", "w"])],
        [value(node.output[0], number, None) for node in nodes[-outputs:]],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
        ),
        path,
    )
    return path


def branches(path: Path, names: str, outputs: int = 1) -> Path:
    """Two convolutions of the same weights, and (for one output) the sum of one and twice the
    other.
    """
    a, b, c, d = tuple(names)
    kernel = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], [a]),
        onnx.helper.make_node("Conv", ["x", "w"], [b]),
        onnx.helper.make_node("Add", [b, b], [c]),
        onnx.helper.make_node("Add", [a, c], [d]),
    ]
    return onnx_model(path, nodes[:2] if outputs == 2 else nodes, {"w": kernel}, outputs)


def test_equal_branches_are_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = branches(tmp_path / "1.onnx", "abcd"), branches(tmp_path / "2.onnx", "qrst")
    assert main(["diff", str(first), str(second)]) == 0
    assert "not paired, more than one fits: a, b | q, r" in capsys.readouterr().out


def test_equal_outputs_cannot_be_aligned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        branches(tmp_path / "1.onnx", "abcd", 2),
        branches(tmp_path / "2.onnx", "qrst", 2),
    )
    assert main(["diff", str(first), str(second)]) == 2
    assert "the outputs cannot be told apart: a, b and q, r fit" in capsys.readouterr().err


def frozen(path: Path, bias: float = 0.5, nodes: str = "plain") -> Path:
    """A graph of a convolution, a bias, and a choice as TensorFlow 1 made it."""
    kernel = np.random.default_rng(1).standard_normal((3, 3, 3, 4)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, (None, None, None, 3), name="pictures")
        y = tf.identity(tf.nn.conv2d(x, kernel, 1, "VALID", name="product"), "copy")
        y = tf.nn.relu(tf.nn.bias_add(y, tf.fill([4], bias), name="sum"), "act")
        if nodes == "choice":
            out, _ = tf.raw_ops.Switch(data=y, pred=tf.reduce_sum(y) > 0, name="switch")
            y = tf.identity(out, "chosen")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def keras_file(path: Path) -> Path:
    kernel = np.random.default_rng(1).standard_normal((3, 3, 3, 4)).astype(np.float32)
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(image)))
    model.layers[1].set_weights([kernel, np.full(4, 0.5, np.float32)])
    model.save(path)
    return path


def test_a_frozen_graph_and_a_keras_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(keras_file(tmp_path / "model.keras"))
    assert main(["diff", str(frozen(tmp_path / "g.pb")), model]) == 0
    capsys.readouterr()
    assert main(["diff", str(frozen(tmp_path / "h.pb", bias=0.51)), model]) == 1
    assert "first at product:0, where the second artifact has conv2d" in said(capsys)


def test_what_is_chosen_while_it_runs_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"switch \(Switch\) chooses or repeats"):
        open_all(frozen(tmp_path / "g.pb", nodes="choice"))


def test_weights_alone_are_not_run(
    mini_artifacts: Path, mini_mat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = next(mini_artifacts.glob("*.weights.h5"))
    assert main(["diff", str(weights), str(mini_mat)]) == 2
    assert "holds weights alone" in capsys.readouterr().err


def test_every_value_is_shown_under_its_own_name(mini_artifacts: Path, tmp_path: Path) -> None:
    own = strange(mini_artifacts / "model.onnx", tmp_path / "strange.onnx")
    shown = open_all(tmp_path / "strange.onnx")
    assert own["vlad:core/Softmax"] in shown.layers
    # whole numbers and what does not come from the image are no values to compare
    assert not {own["vlad:core/Shape"], own["conv1_1/kernel"], own["image"]} & set(shown.layers)
    ours = open_all(mini_artifacts / "model.onnx")
    assert {"conv1_1", "vlad:core", "finalL2", "vlad:core/Softmax"} <= set(ours.layers)
    saved = open_all(mini_artifacts / "saved_model")
    assert {"conv1_1", "finalL2"} <= set(saved.layers)
    assert any(layer.endswith("conv1_1_1/convolution:0") for layer in saved.layers)
