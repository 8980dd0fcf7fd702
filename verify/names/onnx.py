"""What an ONNX file of this project says of itself, and how the head's values lie."""

from __future__ import annotations

__all__ = ["LAYOUTS", "NUMBERS", "VALUES"]

#: `metadata_props` key: a JSON table, layer -> axes (`NHWC`, `NCHW`, `N1KD`, `ND`).
LAYOUTS = "layouts"
#: `metadata_props` key: a JSON table, layer -> value, for those not called as the layer is.
VALUES = "values"
#: `metadata_props` key: what it computes in, where that is not `float32`.
NUMBERS = "numbers"
