"""`examples/cpp`: what the program writes, beside ONNX Runtime in Python. Built by `nox -s cpp`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "python_onnx.py"
PIXELS = np.random.default_rng(2).integers(0, 256, (40, 56, 3), np.uint8)

MiniOnnx = Callable[..., Path]


@pytest.fixture
def program() -> str:
    if "DESCRIBE_PROGRAM" not in os.environ:
        pytest.skip("`nox -s cpp` builds the program and says where in DESCRIBE_PROGRAM")
    return os.environ["DESCRIBE_PROGRAM"]


def _run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a binary PPM"),
        (b"P5 2 1 255\n" + bytes(2), "not a binary PPM"),
        (b"P6 2 1 65535\n" + bytes(12), "not a binary PPM"),
        (b"P6 2 0 255\n", "not a binary PPM"),
        (b"P6 2 -1 255\n" + bytes(6), "not a binary PPM"),
        (b"P6\n# made by hand\n2 1 255\n" + bytes(6), "not a binary PPM"),
        (b"P6 2 1 255\n" + bytes(5), "ends before its last pixel"),
    ],
)
def test_what_is_no_photograph_is_refused(
    content: bytes, said: str, program: str, tmp_path: Path
) -> None:
    (tmp_path / "q.ppm").write_bytes(content)
    done = _run(program, tmp_path / "absent.onnx", tmp_path / "q.ppm", tmp_path / "q.f32")
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "q.f32").exists()


def test_a_model_that_is_not_there_is_named(program: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "q.ppm")
    done = _run(program, tmp_path / "absent.onnx", tmp_path / "q.ppm", tmp_path / "q.f32")
    assert (done.returncode, "absent.onnx" in done.stderr) == (1, True), done.stderr
    assert _run(program).returncode == 1


def test_the_descriptor_is_that_of_python(
    program: str, mini_onnx: MiniOnnx, tmp_path: Path
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "q.ppm")
    done = _run(program, mini_onnx(), tmp_path / "q.ppm", tmp_path / "q.f32")
    assert done.returncode == 0, done.stderr
    command = [sys.executable, SCRIPT, mini_onnx(), tmp_path / "q.ppm", "--output"]
    subprocess.run([*map(str, command), str(tmp_path / "q.npy")], check=True)
    found = np.fromfile(tmp_path / "q.f32", np.float32).astype(np.float64)
    expected = np.load(tmp_path / "q.npy").astype(np.float64)
    assert found.shape == expected.shape
    # The same library; another version of it may sum in another order.
    assert 1 - found @ expected / np.sqrt((found @ found) * (expected @ expected)) <= 1e-6
