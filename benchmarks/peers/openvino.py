"""The ONNX file in OpenVINO at float32, an image at a time.

Where a CPU has bfloat16, OpenVINO uses it unless told otherwise: faster, and another result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from netvlad_keras.preprocess import load_image


def open(artifacts: Path) -> Callable[[Sequence[Path]], Iterator[Any]]:
    """A function from paths to descriptors."""
    core = openvino.Core()
    model = core.read_model(str(artifacts / "model.onnx"))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def describe(paths: Sequence[Path]) -> Iterator[Any]:
        for path in paths:
            yield compiled(load_image(path)[None].astype(np.float32))[0][0].copy()

    return describe
