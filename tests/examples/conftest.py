"""Fixtures: the small net as ONNX files of several forms, a photograph, and the examples."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="session")
def example() -> Callable[[str], dict[str, Any]]:
    """What the example of that name defines."""
    return lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture(scope="session")
def mini_onnx(mini_mat: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The small net's ONNX file with the given `WriteOptions`, each made once."""
    pytest.importorskip("tensorflow", reason="it makes the ONNX file")
    from converters.convert import Request, convert
    from converters.sources import SourceFiles
    from converters.writers.options import WriteOptions

    source = SourceFiles("mini", (mini_mat,), "MIT", "cite it", "a notice")
    made: dict[tuple[tuple[str, Any], ...], Path] = {}

    def make(**options: Any) -> Path:
        key = tuple(sorted(options.items()))
        if key not in made:
            output = tmp_path_factory.mktemp("onnx")
            request = Request(source, output, ("onnx",), options=WriteOptions(**options))
            made[key] = convert(request) / "model.onnx"
        return made[key]

    return make


@pytest.fixture(scope="session")
def query(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG file of 48 × 64 pixels with something large to see in it."""
    noise = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)
    path = tmp_path_factory.mktemp("query") / "query.jpg"
    Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC).save(path)
    return path
