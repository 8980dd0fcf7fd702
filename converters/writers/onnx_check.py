"""onnx.checker's full check of a written file, without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import onnx

from converters.errors import ConversionError

__all__ = ["check"]


def check(path: Path) -> None:
    """Check the whole file, shapes inferred. Raises `ConversionError` with the checker's words."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"{path}: onnx.checker refuses it: {error}") from error
