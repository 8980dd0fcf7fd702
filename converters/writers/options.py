"""What a writer may be asked for, beyond the model and the path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["OPSETS", "WriteOptions"]

#: ONNX operator sets that tf2onnx 1.17 writes; its 19 to 21 fail.
OPSETS = (13, 15, 17, 18)


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of all writers; those but `metadata` concern ONNX.

    opset        ONNX operator set, one of `OPSETS`.
    layout       of the input: `nhwc` or `nchw`.
    input_dtype  `float32` or `uint8`.
    size         height and width in pixels, or None for any.
    batch        images per call, or None for any.
    metadata     written into `metadata_props`.
    """

    opset: int = 18
    layout: str = "nhwc"
    input_dtype: str = "float32"
    size: tuple[int, int] | None = None
    batch: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
