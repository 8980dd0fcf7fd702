"""The signatures of a SavedModel of this project."""

from __future__ import annotations

__all__ = ["DESCRIPTOR", "LAYERS", "SERVING"]

#: Image to every layer's output, under the source's names.
LAYERS = "layers"
#: Image to `DESCRIPTOR`, the last layer's output; a graph of its own.
SERVING = "serving_default"
DESCRIPTOR = "descriptor"
