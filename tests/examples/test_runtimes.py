"""The ONNX file in other runtimes, as `docs/runtimes.md` and `examples/compare_runtimes.py` say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "runtimes.md"
#: How far, in 1 − cosine, a runtime may be from ONNX Runtime. Seen: 1e-12.
LIMIT = 1e-4
FIXED = {"size": (48, 64), "batch": 1}

Array = NDArray[Any]
Example = Callable[[str], dict[str, Any]]
MiniOnnx = Callable[..., Path]


def _vector(*values: float) -> Array:
    return np.array([values], np.float32)


def test_distance_is_one_minus_cosine(example: Example) -> None:
    distance = example("compare_runtimes")["distance"]
    assert distance(_vector(3, 4), _vector(4, 3)) == pytest.approx(0.04)
    assert distance(_vector(1, 0), _vector(-2, 0)) == pytest.approx(2)


def test_the_table_has_each_against_each(example: Example) -> None:
    vectors = {"A": _vector(1, 0), "B": _vector(0, 1)}
    assert example("compare_runtimes")["table"](vectors).splitlines() == [
        "| 1 − cosine | A | B |",
        "|---|---|---|",
        "| A | 0 | 1.0e+00 |",
        "| B | 1.0e+00 | 0 |",
    ]


def test_a_runtime_that_fails_is_named(
    mini_onnx: MiniOnnx,
    query: Path,
    example: Example,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["compare_runtimes.py", str(mini_onnx(**FIXED)), str(query), "--program", "absent"]
    monkeypatch.setattr(sys, "argv", words)
    assert example("compare_runtimes")["main"]() == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("C++: ")
    assert printed.out.startswith("| 1 − cosine | ONNX Runtime |")


@pytest.mark.parametrize("options", [{}, {"layout": "nchw", "input_dtype": "uint8"}])
@pytest.mark.parametrize(
    ("runtime", "package"), [("OpenCV", "cv2"), ("OpenVINO f32", "openvino")], ids=str
)
def test_a_file_of_fixed_size_gives_the_descriptor(
    runtime: str,
    package: str,
    options: dict[str, str],
    mini_onnx: MiniOnnx,
    query: Path,
    example: Example,
) -> None:
    pytest.importorskip(package)
    compare = example("compare_runtimes")
    model = str(mini_onnx(**options, **FIXED))
    images = compare["images_for"](model, str(query))
    found = compare["runtimes"]()[runtime](model, images)
    expected = compare["with_onnxruntime"](model, images)
    assert found.shape == expected.shape == (1, 16)
    assert compare["distance"](found, expected) <= LIMIT


@pytest.mark.parametrize("height", [48, 33])
def test_openvino_takes_any_size(
    height: int, mini_onnx: MiniOnnx, query: Path, example: Example
) -> None:
    pytest.importorskip("openvino")
    compare = example("compare_runtimes")
    model = str(mini_onnx())
    images = compare["images_for"](model, str(query))[:, :height]
    found = compare["runtimes"]()["OpenVINO f32"](model, images)
    assert compare["distance"](found, compare["with_onnxruntime"](model, images)) <= LIMIT


@pytest.mark.parametrize("package", ["cv2", "openvino"])
def test_the_lines_of_the_page(
    package: str,
    mini_onnx: MiniOnnx,
    query: Path,
    tmp_path: Path,
    example: Example,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(package)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if re.search(rf"^import .*\b{package}\b", block, re.M)]
    model = mini_onnx(**FIXED)
    (tmp_path / "model.onnx").symlink_to(model)
    (tmp_path / "query.jpg").symlink_to(query)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, PAGE.name, "exec"), names)
    compare = example("compare_runtimes")
    images = compare["images_for"](str(model), str(query))
    expected = compare["with_onnxruntime"](str(model), images)
    assert compare["distance"](names["descriptor"], expected) <= LIMIT


def test_layers_of_the_page_that_stay_in_float32(mini_onnx: MiniOnnx) -> None:
    """The line that lists them for TensorRT: what squares, divides and exponentiates, no more."""
    (code,) = re.findall(r"python -c \"(.*?)\"", PAGE.read_text("utf-8"), re.DOTALL)
    command = [sys.executable, "-c", code]
    folder = mini_onnx(**FIXED).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    layers = [pair.rpartition(":") for pair in done.stdout.strip().split(",")]
    assert {precision for _, _, precision in layers} == {"fp32"}
    names = {name for name, _, _ in layers}
    assert {"input/Sub", "preL2/ReduceSum", "vlad:core/Softmax", "finalL2/Div"} <= names
    assert not [name for name in names if re.match(r"conv|relu|pool|WPCA", name)]
    # Nothing of integers, which could not be told to be float32.
    assert not [name for name in names if re.search(r"/(Shape|Gather|Cast|Slice|Concat)", name)]


def test_softmax_says_its_axis(mini_onnx: MiniOnnx) -> None:
    """OpenCV 4.8 takes a softmax that does not for one over axis 1, and says nothing."""
    import onnx

    nodes = onnx.load(mini_onnx(**FIXED)).graph.node
    (softmax,) = [node for node in nodes if node.op_type == "Softmax"]
    assert [(each.name, each.i) for each in softmax.attribute] == [("axis", -1)]


def test_every_runtime_beside_every_other(
    mini_onnx: MiniOnnx, query: Path, example: Example
) -> None:
    """`nox -s runtimes` prints this table; what is not installed is not in it."""
    compare = example("compare_runtimes")
    model = str(mini_onnx(**FIXED))
    images = compare["images_for"](model, str(query))
    runtimes = compare["runtimes"](os.environ.get("DESCRIBE_PROGRAM", ""))
    found = {name: run(model, images) for name, run in runtimes.items()}
    print("", compare["table"](found), sep="\n")
    far = {
        (one, other): compare["distance"](found[one], found[other])
        for one in found
        for other in found
        if "as it comes" not in one + other
    }
    assert max(far.values()) <= LIMIT, far
