"""Rounding an ONNX file to float16: what is rounded, what is kept, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.writers import onnx_half

Array = NDArray[Any]
make = onnx.helper.make_node


def net(kernel: Array, *, normalised: bool = True) -> Any:
    """conv1, relu1 and, if asked for, preL2 over the channels, with a weight of its own."""
    nodes = [
        make("Transpose", ["image"], ["net/Transpose"], "net/Transpose", perm=[0, 3, 1, 2]),
        make("Conv", ["net/Transpose", "conv1/kernel", "conv1/bias"], ["conv1"], "conv1/Conv"),
        make("Relu", ["conv1"], ["relu1" if normalised else "out"], "relu1/Relu"),
    ]
    weights = {"conv1/kernel": kernel, "conv1/bias": np.full(4, 1e-5, np.float32)}
    if normalised:
        nodes += [
            make("Mul", ["relu1", "relu1"], ["preL2/Mul"], "preL2/Mul"),
            make("ReduceSum", ["preL2/Mul", "constant_0"], ["preL2/Sum"], "preL2/ReduceSum"),
            make("Add", ["preL2/Sum", "constant_1"], ["preL2/Add"], "preL2/Add"),
            make("Sqrt", ["preL2/Add"], ["preL2/Sqrt"], "preL2/Sqrt"),
            make("Div", ["relu1", "preL2/Sqrt"], ["preL2/Div"], "preL2/Div"),
            make("Mul", ["preL2/Div", "preL2/factor"], ["out"], "preL2/Mul_2"),
        ]
        weights |= {
            "constant_0": np.array([1]),
            "constant_1": np.array(1e-12, np.float32),
            "preL2/factor": np.full((1, 4, 1, 1), 1 / 3, np.float32),
        }
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [value("image", onnx.TensorProto.FLOAT, ["n", "h", "w", 3])],
        [value("out", onnx.TensorProto.FLOAT, ["n", 4, "y", "x"])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.helper.set_model_props(model, {"layouts": json.dumps({"conv1": "NCHW"})})
    return model


KERNEL = np.random.RandomState(0).uniform(-1, 1, (4, 3, 3, 3)).astype(np.float32)
#: Black, near-black, bright.
IMAGES = np.concatenate(
    [
        np.zeros((1, 8, 8, 3)),
        np.full((1, 8, 8, 3), 1e-3),
        np.random.RandomState(1).uniform(0, 255, (1, 8, 8, 3)),
    ]
).astype(np.float32)


def run(model: Any) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"image": IMAGES})
    return np.asarray(found)


def rewritten(model: Any, dtype: Any = np.float16) -> Any:
    for name, array in onnx_half.rounded(model, dtype).items():
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        model.graph.initializer.append(tensor)
    return model


def test_a_weight_beyond_float16_is_refused_by_name(tmp_path: Path) -> None:
    onnx.save(net(KERNEL * 1e6), tmp_path / "model.onnx")
    with pytest.raises(ConversionError, match=r"conv1/kernel reaches .* float16 ends at 65504"):
        onnx_half.write(tmp_path / "model.onnx", tmp_path / "model_fp16.onnx")
    assert not (tmp_path / "model_fp16.onnx").exists()


def test_branches_are_refused() -> None:
    model = net(KERNEL)
    inner = onnx.helper.make_graph([make("Relu", ["conv1"], ["x"])], "inner", [], [])
    branch = make("If", ["yes"], ["y"], "conv1/If", then_branch=inner, else_branch=inner)
    model.graph.node.append(branch)
    with pytest.raises(ConversionError, match="branches"):
        onnx_half.rounded(model)


def test_the_same_rewrite_in_float32_changes_no_bit() -> None:
    before = run(net(KERNEL * 100))
    model = rewritten(net(KERNEL * 100), np.float32)
    assert any(node.op_type == "Cast" for node in model.graph.node)
    np.testing.assert_array_equal(run(model), before)


def test_a_norm_neither_overflows_nor_vanishes() -> None:
    expected = run(net(KERNEL * 10))
    pixels = IMAGES[2].transpose(2, 0, 1)[:, :3, :3]
    made = np.maximum((KERNEL * 10 * pixels).sum(axis=(1, 2, 3)), 0)
    assert np.square(made).sum() > 65504  # the trap is set
    found = run(rewritten(net(KERNEL * 10)))
    assert np.isfinite(found).all()
    assert ((found == 0).all(axis=1) == (expected == 0).all(axis=1)).all()  # no zeroed position
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_weights_are_rounded_once_and_a_norm_keeps_its_own() -> None:
    weights = onnx_half.rounded(net(KERNEL))
    assert weights["conv1/kernel"].dtype == np.float16
    np.testing.assert_array_equal(weights["conv1/kernel"], KERNEL.astype(np.float16))
    assert weights["preL2/factor"].dtype == np.float32
    assert weights["constant_1"] == np.float32(1e-12)


@pytest.mark.parametrize("normalised", [True, False])
def test_names_metadata_and_the_type_of_both_ends_stay(normalised: bool, tmp_path: Path) -> None:
    before = net(KERNEL, normalised=normalised)
    onnx.save(before, tmp_path / "model.onnx")
    onnx_half.write(tmp_path / "model.onnx", tmp_path / "model_fp16.onnx")
    after = onnx.load(tmp_path / "model_fp16.onnx")
    onnx.checker.check_model(after, full_check=True)
    made = {name for node in after.graph.node for name in node.output}
    assert {name for node in before.graph.node for name in node.output} <= made
    stated, own = ({e.key: e.value for e in m.metadata_props} for m in (before, after))
    assert own == {**stated, "numbers": "float16"}
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert run(after).dtype == np.float32


def test_layers_that_square_or_divide_are_kept() -> None:
    assert onnx_half.kept_layers(net(KERNEL)) == {"preL2"}
    assert onnx_half.kept_layers(net(KERNEL, normalised=False)) == set()
