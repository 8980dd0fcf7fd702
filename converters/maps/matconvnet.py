"""From a MatConvNet net's tensors to the model's weights, by layer name or kind."""

from __future__ import annotations

from converters.layermap import Rule

__all__ = ["TABLE"]

TABLE: dict[str, tuple[Rule, ...]] = {
    "input": (Rule("normalization/averageImage", "input/mean", part=(0, 0)),),
    "conv": (
        Rule("{name}/weights/0", "{name}/kernel", "h w i o -> h w i o"),
        Rule("{name}/weights/1", "{name}/bias", "o -> o"),
    ),
    "layerVLAD": (
        Rule("{name}/weights/0", "{name}/assignment", "1 1 d k -> d k"),
        Rule("{name}/weights/1", "{name}/centers", "1 1 d k -> d k", sign=-1),
    ),
    "layerVLADv2": (
        Rule("{name}/weights/0", "{name}/assignment", "1 1 d k -> d k"),
        Rule("{name}/weights/1", "{name}/bias", "k -> k"),
        Rule("{name}/weights/2", "{name}/centers", "1 1 d k -> d k", sign=-1),
    ),
    "WPCA": (
        Rule("{name}/weights/0", "{name}/kernel", "1 1 i o -> i o"),
        Rule("{name}/weights/1", "{name}/bias", "o -> o"),
    ),
}
