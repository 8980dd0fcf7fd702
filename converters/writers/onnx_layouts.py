"""How values lie in an ONNX file where their axes are not those of a map of features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netvlad_keras.spec import NetVLADSpec

__all__ = ["head_layouts"]

#: NetVLAD's own layers, in its own model.
_NETVLAD = {
    **dict.fromkeys(("vlad:core", "vlad:intranorm"), "N1KD"),
    **dict.fromkeys(("max:core", "avg:core", "postL2", "WPCA", "finalL2"), "ND"),
}
_VLAD = ("layerVLAD", "layerVLADv2")


def head_layouts(spec: Any, layers: Iterable[str]) -> dict[str, str]:
    """Layer -> axes of those among `layers` that have no place in the image."""
    if isinstance(spec, NetVLADSpec):
        return {name: _NETVLAD[name] for name in layers if name in _NETVLAD}
    found: dict[str, str] = {}
    for row in spec.rows:
        behind = row.kind == "normalize" and any(name in found for name in row.inputs)
        if row.kind in _VLAD or behind:
            found[row.name] = "N1KD"
    return found
