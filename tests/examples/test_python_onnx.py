"""`examples/python_onnx.py`: the descriptor of `netvlad-describe`, without this project."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netvlad_keras import load_image, results
from netvlad_keras.__main__ import main

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "python_onnx.py"
ALONE = {"numpy", "onnxruntime", "PIL"}

RNG = np.random.default_rng(11)
COLOURS = RNG.integers(0, 256, (20, 30, 3), np.uint8)
SEE_THROUGH = np.dstack([COLOURS, RNG.integers(0, 256, (20, 30), np.uint8)])

Example = Callable[[str], dict[str, Any]]


def _palette() -> Image.Image:
    image = Image.fromarray(COLOURS).quantize(16)
    image.info["transparency"] = 3
    return image


def _turned() -> Image.Image:
    image = Image.fromarray(COLOURS)
    image.getexif()[0x0112] = 6  # a quarter turn
    return image


# Name of the file, and what is in it.
PHOTOGRAPHS: dict[str, Image.Image] = {
    "colours.png": Image.fromarray(COLOURS),
    "colours.jpg": Image.fromarray(COLOURS),
    "turned.jpg": _turned(),
    "grey.jpg": Image.fromarray(COLOURS[..., 0]),
    "grey_and_alpha.png": Image.fromarray(SEE_THROUGH[..., [0, 3]]),
    "alpha.png": Image.fromarray(SEE_THROUGH),
    "palette.png": _palette(),
    "black_and_white.png": Image.fromarray(COLOURS[..., 0] > 127),
    "cmyk.jpg": Image.fromarray(COLOURS).convert("CMYK"),
    "colours.ppm": Image.fromarray(COLOURS),
}


@pytest.mark.parametrize("values", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused(values: type, tmp_path: Path, example: Example) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(COLOURS[..., 0].astype(values)).save(path)
    with pytest.raises(ValueError, match=r"deep\.tif: more than 8 bits"):
        example("python_onnx")["photograph"](str(path))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_pixels_are_those_of_the_project(name: str, tmp_path: Path, example: Example) -> None:
    image = PHOTOGRAPHS[name]
    image.save(tmp_path / name, exif=image.getexif())
    pixels = example("python_onnx")["photograph"](str(tmp_path / name))
    expected = load_image(tmp_path / name)
    assert expected.shape == ((30, 20, 3) if name == "turned.jpg" else (20, 30, 3))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


def test_nothing_of_the_project_is_imported() -> None:
    tree = ast.walk(ast.parse(SCRIPT.read_text("utf-8")))
    names = {
        name.split(".")[0]
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert names - sys.stdlib_module_names == ALONE


@pytest.mark.parametrize(
    "options",
    [{}, {"layout": "nchw", "input_dtype": "uint8", "size": (48, 64), "batch": 1}],
    ids=["as it comes", "nchw, uint8, fixed"],
)
def test_the_descriptor_is_that_of_the_command(
    options: dict[str, Any],
    mini_onnx: Callable[..., Path],
    query: Path,
    tmp_path: Path,
    example: Example,
) -> None:
    model, theirs = str(mini_onnx(**options)), str(tmp_path / "theirs.npz")
    module = example("python_onnx")
    descriptor = module["describe"](model, module["photograph"](str(query)))
    assert main(["describe", str(query), "--model", model, "--output", theirs]) == 0
    assert (descriptor.dtype, descriptor.shape) == (np.float32, (16,))
    np.testing.assert_array_equal(descriptor, results.read(theirs).vectors[0])


def test_it_is_written_or_printed(
    mini_onnx: Callable[..., Path], query: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPT), str(mini_onnx()), str(query)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    subprocess.run([*command, "--output", "mine.npy"], check=True, cwd=tmp_path)
    written = np.load(tmp_path / "mine.npy")
    assert written.shape == (16,)
    np.testing.assert_allclose([float(word) for word in printed.stdout.split()], written)
