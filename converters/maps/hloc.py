"""From hloc's NetVLAD module (hloc/extractors/netvlad.py) to the model's weights."""

from __future__ import annotations

from converters.layermap import Rule
from converters.maps.torchvision import convolutions

__all__ = ["TABLE"]

TABLE: dict[str, tuple[Rule, ...]] = {
    "input": (Rule("input/mean", "input/mean", "c -> c"),),
    **convolutions("backbone"),
    "layerVLAD": (
        Rule("netvlad.score_proj.weight", "{name}/assignment", "k d 1 -> d k"),
        Rule("netvlad.centers", "{name}/centers", "d k -> d k"),
    ),
    "WPCA": (
        Rule("whiten.weight", "{name}/kernel", "o i -> i o"),
        Rule("whiten.bias", "{name}/bias", "o -> o"),
    ),
}
