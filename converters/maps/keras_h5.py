"""Keras weights already carry the model's names and axes."""

from __future__ import annotations

from converters.layermap import Rule

__all__ = ["TABLE"]


def _same(*weights: str) -> tuple[Rule, ...]:
    return tuple(Rule(f"{{name}}/{weight}", f"{{name}}/{weight}") for weight in weights)


TABLE: dict[str, tuple[Rule, ...]] = {
    "input": _same("mean"),
    "conv": _same("kernel", "bias"),
    "layerVLAD": _same("assignment", "centers"),
    "layerVLADv2": _same("assignment", "bias", "centers"),
}
