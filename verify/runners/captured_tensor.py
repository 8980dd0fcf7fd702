"""One tensor as ONNX writes it: a TensorProto, as in the test data of ONNX's model zoo."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from converters.errors import ReadError
from verify.capture import Array

__all__ = ["read"]


def read(path: Path) -> tuple[str, Array]:
    """The tensor's name, `""` if it has none, and its values.

    Raises `ReadError` for one whose values lie in another file; protobuf's and ONNX's own errors
    come out as they are.
    """
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ReadError(path, "its values lie in another file", advice="Save them in it.")
    if not tensor.data_type:
        raise ReadError(path, "is not an ONNX tensor", advice="Save a TensorProto.")
    return tensor.name, numpy_helper.to_array(tensor)
