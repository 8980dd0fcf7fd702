"""Weights that are found in an ONNX file without loading it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.errors import ReadError
from verify.runners.onnx_file import read
from verify.runners.onnx_scan import scan


def model(*tensors: TensorProto) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 9]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", tensors[0].name], ["y"])], "g",
                              [x], [y], list(tensors))  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def typed(dtype: int, name: str, count: int = 90) -> TensorProto:
    values = np.arange(count).reshape(9, -1) % 7
    return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(dtype)), name)


ALL = (
    *(TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16),
    *(TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL, TensorProto.INT4),
)


@pytest.mark.parametrize("dtype", ALL, ids=TensorProto.DataType.Name)
def test_every_type_comes_out_as_it_went_in(dtype: int, tmp_path: Path) -> None:
    tensor = typed(dtype, "w", 900)
    onnx.save(model(tensor), tmp_path / "m.onnx")
    found = read(tmp_path / "m.onnx").initializers["w"]
    expected = numpy_helper.to_array(tensor)
    assert found.dtype == expected.dtype
    assert found.shape == (9, 100)
    np.testing.assert_array_equal(found, expected)


def test_values_that_are_numbers_and_not_bytes_are_read_too(tmp_path: Path) -> None:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [9, 30], [0.5] * 270)
    onnx.save(model(tensor), tmp_path / "m.onnx")
    np.testing.assert_array_equal(
        read(tmp_path / "m.onnx").initializers["w"], np.full((9, 30), 0.5)
    )


def test_only_large_values_are_left_in_the_file(tmp_path: Path) -> None:
    small, large = typed(TensorProto.FLOAT, "small", 9), typed(TensorProto.FLOAT, "large", 900)
    path = tmp_path / "m.onnx"
    onnx.save(model(large, small), path)
    message, spans = scan(path, 256)
    assert spans[1] is None
    assert spans[0] is not None
    offset, length = spans[0]
    assert length == 3600
    assert path.read_bytes()[offset : offset + length] == large.raw_data
    rest = onnx.ModelProto.FromString(message)
    assert [t.name for t in rest.graph.initializer] == ["large", "small"]
    assert not rest.graph.initializer[0].raw_data
    assert rest.graph.initializer[1] == small


def broken(path: Path, how: str) -> None:
    onnx.save(model(typed(TensorProto.FLOAT, "w", 900)), path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-200],
            "text": b"not a model " * 40,
            "endless": b"\xff" * 100,
            "group": b"\x0b" + whole,
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "text", "endless", "group"])
def test_what_is_no_message_is_refused(how: str, tmp_path: Path) -> None:
    broken(tmp_path / "m.onnx", how)
    with pytest.raises(ReadError, match=r"m\.onnx"):
        read(tmp_path / "m.onnx")


def test_values_that_do_not_fill_their_shape_are_refused(tmp_path: Path) -> None:
    tensor = typed(TensorProto.FLOAT, "w", 900)
    tensor.dims[:] = [9, 99]
    onnx.save(model(tensor), tmp_path / "m.onnx")
    with pytest.raises(ReadError, match="w: its values do not fit it"):
        read(tmp_path / "m.onnx")
