"""The folder that lets others see a layer fail."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.errors import EnvironmentFailure
from verify.report import repro

X = np.array([[1, -2, 3]], np.float32)
Y = np.array([[4, 5, -6]], np.float32)


def add() -> onnx.ModelProto:
    """x + y, inputs named out of alphabetical order."""
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in ("y", "x", "out")
    ]
    graph = helper.make_graph(
        [helper.make_node("Add", ["y", "x"], ["out"])], "add", values[:2], values[2:]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("artifact", "layer", "expected"),
    [
        ("model.onnx", "conv3_2", "model.onnx-conv3_2"),
        ("model.onnx", "vlad:core", "model.onnx-vlad.3Acore"),
        ("../../evil", "a/b\\c", "...2F...2Fevil-a.2Fb.5Cc"),
        ("a b", "\udc80\n", "a.20b-.ED.B2.80.0A"),
    ],
)
def test_folder_name(artifact: str, layer: str, expected: str) -> None:
    name = repro.folder_name(artifact, layer)
    assert name == expected
    assert Path(name).name == name


def test_it_runs_as_its_readme_says(tmp_path: Path) -> None:
    folder = tmp_path / "repro" / repro.folder_name("model.onnx", "sum")
    repro.write(folder, add(), [Y, X], X + Y, X + Y + 0.5)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        "README.txt",
        "model.onnx",
        "test_data_set_0/found_0.pb",
        "test_data_set_0/input_0.pb",
        "test_data_set_0/input_1.pb",
        "test_data_set_0/output_0.pb",
    ]
    title, what, command = (folder / "README.txt").read_text("utf-8").splitlines()
    assert title.startswith("model.onnx-sum: in test_data_set_0, output_0.pb is what the source")
    assert what == "Run it in this folder, where onnx and onnxruntime are installed:"
    python, *arguments = shlex.split(command)
    assert python == "python"
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "output_0: max |d| 0; found_0: max |d| 0.5\n"


def test_the_tensors_are_kept_to_the_bit(tmp_path: Path) -> None:
    odd = np.array([[np.nan, np.inf, 1e-45]], np.float32)
    repro.write(tmp_path / "r", None, [odd], odd.T, None)
    data = tmp_path / "r" / "test_data_set_0"
    found = numpy_helper.to_array(onnx.load_tensor(str(data / "input_0.pb")))
    assert found.tobytes() == odd.tobytes()
    assert numpy_helper.to_array(onnx.load_tensor(str(data / "output_0.pb"))).shape == (3, 1)
    assert not (data / "found_0.pb").exists()
    assert "There is no model.onnx" in (tmp_path / "r" / "README.txt").read_text("utf-8")
    assert len((tmp_path / "r" / "README.txt").read_text("utf-8").splitlines()) == 3


def test_an_old_bundle_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    repro.write(folder, add(), [Y, X], X + Y, X)
    repro.write(folder, None, [X], X, None)
    assert sorted(path.name for path in folder.rglob("*.*")) == [
        "README.txt",
        "input_0.pb",
        "output_0.pb",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_nothing_is_left_where_the_disk_refuses(tmp_path: Path) -> None:
    (tmp_path / "repro").write_text("a file")
    with pytest.raises(EnvironmentFailure, match="the repro cannot be written"):
        repro.write(tmp_path / "repro" / "r", add(), [Y, X], X, X)
    assert [path.name for path in tmp_path.iterdir()] == ["repro"]


def test_nothing_is_left_of_a_tensor_that_onnx_cannot_hold(tmp_path: Path) -> None:
    words = np.array([object()])
    with pytest.raises(Exception):  # noqa: B017, PT011
        repro.write(tmp_path / "r", None, [words], X, X)
    assert list(tmp_path.iterdir()) == []
