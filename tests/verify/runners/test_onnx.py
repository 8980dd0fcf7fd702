"""ONNX files that are not this project's: names, wiring, weights kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from converters.errors import ConversionError, LayerError, MappingError, ReadError
from verify.formats import open_artifact
from verify.names.canonical import Place
from verify.runners import onnx as runners_onnx

Array = NDArray[Any]

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (2, 6, 8, 3), np.uint8)
KERNEL = RNG.standard_normal((4, 3, 1, 1)).astype(np.float32)
MEAN = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
WPCA = RNG.standard_normal((4, 2)).astype(np.float32)


def model(
    nodes: Sequence[Any], weights: dict[str, Array], outputs: Sequence[str], **facts: Any
) -> Any:
    shape = facts.get("shape", ["n", 3, "h", "w"])
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(made, facts.get("metadata", {}))
    return made


def chain(order: Sequence[str] = ("conv", "pool", "relu"), **facts: Any) -> Any:
    """Mean, then a 1×1 convolution, a pool and a relu in some order, the head, two outputs."""
    kinds: dict[str, tuple[str, list[str], dict[str, Any]]] = {
        "conv": ("Conv", ["w"], {}),
        "pool": ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        "relu": ("Relu", [], {}),
    }
    nodes = [helper.make_node("Sub", ["pictures", "mean"], ["centred"])]
    for name in order:
        operation, more, attributes = kinds[name]
        nodes.append(
            helper.make_node(operation, [nodes[-1].output[0], *more], [name], **attributes)
        )
    nodes += [
        helper.make_node("ReduceMax", [order[-1], "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "wpca"], ["descriptor"]),
    ]
    weights = {"mean": MEAN, "w": KERNEL, "wpca": WPCA, "axes": np.array([2, 3])}
    return model(nodes, weights, ["descriptor", "pool"], **facts)


NAMES = {
    "input": Place("centred"),
    "conv1_1": Place("conv"),
    "pool1": Place("pool"),
    "relu1_1": Place("relu"),
    "max:core": Place("pooled"),
    "WPCA": Place("descriptor"),
    "conv1_1/kernel": Place("w"),
    "input/mean": Place("mean"),
    "WPCA/kernel": Place("wpca"),
}


def write(path: Path, made: Any) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def test_a_strangers_file_runs_by_a_table_of_names(tmp_path: Path) -> None:
    runner: Any = open_artifact(write(tmp_path / "m.onnx", chain()), NAMES)
    assert runner.layers == ("input", "conv1_1", "pool1", "relu1_1", "max:core", "WPCA")
    found = dict(runner.run(IMAGES))
    np.testing.assert_array_equal(found["input"], IMAGES - MEAN.ravel())
    right = found["input"] @ KERNEL[:, :, 0, 0].T
    np.testing.assert_allclose(found["conv1_1"], right, rtol=1e-5, atol=1e-3)
    pooled = found["conv1_1"].reshape(2, 3, 2, 4, 2, 4).max((2, 4))
    np.testing.assert_array_equal(found["pool1"], pooled)
    np.testing.assert_array_equal(found["relu1_1"], np.maximum(pooled, 0))
    np.testing.assert_array_equal(found["max:core"], found["relu1_1"].max((1, 2)))
    users = runner.deployed(IMAGES)
    assert tuple(users) == ("pool1", "WPCA")
    np.testing.assert_allclose(users["WPCA"], found["WPCA"], rtol=1e-5)
    weights = runner.weights()
    assert set(weights) == {"conv1_1/kernel", "input/mean", "WPCA/kernel"}
    np.testing.assert_array_equal(weights["conv1_1/kernel"][0, 0], KERNEL[:, :, 0, 0].T)
    np.testing.assert_array_equal(weights["input/mean"], MEAN.ravel())


def test_wiring_is_the_files_own(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", chain(("conv", "relu", "pool")))
    runner: Any = open_artifact(path, NAMES)
    assert runner.reads["relu1_1"] == ("conv1_1",)
    assert runner.reads["pool1"] == ("relu1_1",)
    found = dict(runner.run(IMAGES))
    assert found["relu1_1"].shape == (2, 6, 8, 4)
    assert (runner.replay("pool1", [-np.ones((1, 4, 4, 4), np.float32)]) == -1).all()


def test_layouts_are_followed_or_stated(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["pictures"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["turned", "w"], ["conv1_1"]),
        helper.make_node("Transpose", ["conv1_1"], ["back"], perm=[0, 2, 3, 1]),
        helper.make_node("Relu", ["back"], ["relu1_1"]),
        helper.make_node("ReduceSum", ["relu1_1", "axis"], ["nkd"], keepdims=0),
    ]
    weights = {"w": KERNEL, "axis": np.array([1])}
    path = write(tmp_path / "m.onnx", model(nodes, weights, ["nkd"], shape=["n", "h", "w", 3]))
    found = dict(open_artifact(path).run(IMAGES))
    assert {layer: v.shape for layer, v in found.items()} == {
        "conv1_1": (2, 6, 8, 4),
        "relu1_1": (2, 6, 8, 4),
    }
    np.testing.assert_array_equal(found["relu1_1"], np.maximum(found["conv1_1"], 0))
    names = {"relu1_1": Place("relu1_1"), "vlad:core": Place("nkd", "NDK")}
    found = dict(open_artifact(path, names).run(IMAGES))
    assert found["vlad:core"].shape == (2, 1, 4, 8)
    np.testing.assert_allclose(
        found["vlad:core"][:, 0].transpose(0, 2, 1), found["relu1_1"].sum(1), rtol=1e-6
    )


def test_parts_of_a_kernel_are_put_together(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["pictures", "conv1_1/kernel.0"], ["a"]),
        helper.make_node("Conv", ["pictures", "conv1_1/kernel.1"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["conv1_1"], axis=1),
    ]
    weights = {"conv1_1/kernel.1": KERNEL[2:], "conv1_1/kernel.0": KERNEL[:2]}
    path = write(tmp_path / "m.onnx", model(nodes, weights, ["conv1_1"]))
    (found,) = open_artifact(path).weights().values()
    np.testing.assert_array_equal(found, KERNEL.transpose(2, 3, 1, 0))


def test_a_branch_may_read_what_lies_outside_it(tmp_path: Path) -> None:
    def branch(name: str, factor: str) -> Any:
        node = helper.make_node("Mul", ["conv1_1", factor], [name])
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [output])

    nodes = [
        helper.make_node("Conv", ["pictures", "w"], ["conv1_1"]),
        helper.make_node(
            "If", ["is"], ["relu1_1"], then_branch=branch("t", "two"), else_branch=branch("e", "w0")
        ),
    ]
    weights = {"w": KERNEL, "two": np.float32(2), "w0": np.float32(0), "is": np.array(True)}
    made = model(nodes, {k: np.asarray(v) for k, v in weights.items()}, ["relu1_1"])
    names = {layer: Place(layer, "NCHW") for layer in ("conv1_1", "relu1_1")}
    runner: Any = open_artifact(write(tmp_path / "m.onnx", made), names)
    assert runner.reads["relu1_1"] == ("conv1_1",)
    ones = np.ones((1, 2, 2, 4), np.float32)
    np.testing.assert_array_equal(runner.replay("relu1_1", [ones]), 2 * ones)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({}, "No value carries a layer's name"),
        ({"conv1_1": Place("konv")}, r"conv1_1 \(konv in .*it has conv\)"),
        ({**NAMES, "conv1_1/bias": Place("b")}, r"conv1_1/bias \(b in"),
        ({"conv1_1/kernel": Place("w")}, "No value carries a layer's name"),
    ],
)
def test_names_that_are_not_there_are_named(
    tmp_path: Path, names: dict[str, Place], words: str
) -> None:
    with pytest.raises(MappingError, match=words):
        open_artifact(write(tmp_path / "m.onnx", chain()), names)


def test_two_names_of_one_value_are_refused(tmp_path: Path) -> None:
    names = {"conv1_1": Place("conv"), "relu1_1": Place("conv")}
    with pytest.raises(LayerError, match="is the same value as"):
        open_artifact(write(tmp_path / "m.onnx", chain()), names)


@pytest.mark.parametrize(
    ("metadata", "error", "words"),
    [
        ({"layouts": "not JSON"}, ReadError, "metadata are damaged"),
        ({"layouts": "[1]"}, ReadError, "metadata are damaged"),
        ({"layouts": json.dumps({"conv9": "NCHW"})}, MappingError, "conv9"),
        (
            {"layouts": json.dumps({"conv": "NCHW"}), "values": json.dumps({"conv": "x"})},
            MappingError,
            r"conv \(x in",
        ),
    ],
)
def test_metadata_that_do_not_fit_the_graph(
    tmp_path: Path, metadata: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        open_artifact(write(tmp_path / "m.onnx", chain(metadata=metadata)))


def test_a_wrong_layout_is_an_error_of_its_layer_or_shows(tmp_path: Path) -> None:
    metadata = {"layouts": json.dumps({"conv": "NKD"})}
    runner = open_artifact(write(tmp_path / "m.onnx", chain(metadata=metadata)))
    with pytest.raises(LayerError) as caught:
        list(runner.run(IMAGES))
    assert set(caught.value.faults) == {"conv"}


def external(path: Path, location: str, offset: str = "0", length: str = "48") -> Path:
    made = chain()
    (kernel,) = (tensor for tensor in made.graph.initializer if tensor.name == "w")
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        kernel.external_data.add(key=key, value=value)
    return write(path, made)


def test_weights_beside_the_file_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "w.bin").write_bytes(b"head" + KERNEL.tobytes())
    path = external(tmp_path / "m.onnx", "parts/w.bin", "4")
    runner: Any = open_artifact(path, NAMES)
    found = dict(runner.run(IMAGES))
    np.testing.assert_allclose(runner.deployed(IMAGES)["WPCA"], found["WPCA"], rtol=1e-5)
    kernel = runner.weights()["conv1_1/kernel"]
    np.testing.assert_array_equal(kernel, KERNEL.transpose(2, 3, 1, 0))


@pytest.mark.parametrize(
    ("location", "offset", "length", "words"),
    [
        ("../secret.bin", "0", "48", r"w lies in '\.\./secret\.bin'; refused"),
        ("a/../../secret.bin", "0", "48", "refused"),
        ("{folder}/w.bin", "0", "48", "refused"),
        ("link.bin", "0", "48", "refused"),
        ("linked/secret.bin", "0", "48", "refused"),
        ("absent.bin", "0", "48", "refused"),
        (".", "0", "48", "refused"),
        ("", "0", "48", "refused"),
        ("C:\\w.bin", "0", "48", "refused"),
        ("w.bin", "1", "48", "does not hold 12 numbers"),
        ("w.bin", "-4", "48", "does not hold 12 numbers"),
        ("w.bin", "0", "44", "does not hold 12 numbers"),
        ("w.bin", "zero", "48", "do not fit it"),
    ],
)
def test_weights_elsewhere_are_refused(
    tmp_path: Path, location: str, offset: str, length: str, words: str
) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (folder / "w.bin").write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    path = external(folder / "m.onnx", location.format(folder=folder), offset, length)
    with pytest.raises(ReadError, match=words):
        open_artifact(path, NAMES)


def test_a_constant_kept_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    value = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=KERNEL.shape)
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="w.bin")
    node = helper.make_node("Constant", [], ["w"])
    node.attribute.append(helper.make_attribute("value", value))
    made = model([node, helper.make_node("Conv", ["pictures", "w"], ["c"])], {}, ["c"])
    with pytest.raises(ReadError, match="hidden lies outside the file"):
        open_artifact(write(tmp_path / "m.onnx", made), {"conv1_1": Place("c")})


@pytest.mark.parametrize("content", [b"", b"not ONNX at all", b"\x08\x09"])
def test_what_is_no_model_is_a_read_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ReadError, match="ONNX"):
        open_artifact(tmp_path / "m.onnx")


def test_each_of_two_inputs_is_given_by_its_name(tmp_path: Path) -> None:
    made = model([helper.make_node("Sub", ["left", "right"], ["conv1_1"])], {}, ["conv1_1"])
    del made.graph.input[:]
    shape: list[str | int] = ["n", "h", "w", 3]
    for name in ("left", "right"):
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    runner: Any = runners_onnx.open(write(tmp_path / "m.onnx", made))
    one, two = np.full((1, 2, 2, 3), 5.0), np.full((1, 2, 2, 3), 2.0)
    assert runner.reads == {"conv1_1": ("left", "right")}
    for given in ({"left": one, "right": two}, {"right": two, "left": one}):
        np.testing.assert_array_equal(dict(runner.run(given))["conv1_1"], np.full(one.shape, 3.0))
        np.testing.assert_array_equal(runner.deployed(given)["conv1_1"], np.full(one.shape, 3.0))
    with pytest.raises(ConversionError, match="takes left, right; given: left"):
        list(runner.run({"left": one}))


def test_without_an_input_there_is_nothing_to_run(tmp_path: Path) -> None:
    made = chain()
    del made.graph.input[:]
    with pytest.raises(ReadError, match="it has no input"):
        open_artifact(write(tmp_path / "m.onnx", made), NAMES)


def test_operators_of_an_unknown_domain_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Unheard", ["pictures"], ["conv1_1"], domain="elsewhere")
    made = model([node], {}, ["conv1_1"])
    made.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(ReadError, match="a node is a Unheard of elsewhere"):
        runners_onnx.open(write(tmp_path / "m.onnx", made))


def test_what_the_library_refuses_is_an_error_of_the_layer(tmp_path: Path) -> None:
    node = helper.make_node("Unheard", ["pictures"], ["conv1_1"], domain="com.microsoft")
    made = model([node], {}, ["conv1_1"])
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    runner: Any = runners_onnx.open(write(tmp_path / "m.onnx", made))
    with pytest.raises(LayerError, match="conv1_1"):
        list(runner.run(IMAGES))
    with pytest.raises(ConversionError, match="cannot be run"):
        runner.deployed(IMAGES)
