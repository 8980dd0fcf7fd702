"""From pytorch-NetVlad's model (main.py, netvlad.py), and Patch-NetVLAD's WPCA, to the model's.

Their vector runs k·D + d, MatConvNet's d·K + k; the reader gives WPCA's rows
both axes.
"""

from __future__ import annotations

from converters.layermap import Rule
from converters.maps.torchvision import convolutions

__all__ = ["TABLE"]

_VLAD = (
    Rule("pool.conv.weight", "{name}/assignment", "k d 1 1 -> d k"),
    Rule("pool.centroids", "{name}/centers", "k d -> d k"),
)

TABLE: dict[str, tuple[Rule, ...]] = {
    "input": (Rule("input/mean", "input/mean", "c -> c"),),
    **convolutions("encoder"),
    "layerVLAD": _VLAD,
    "layerVLADv2": (*_VLAD, Rule("pool.conv.bias", "{name}/bias", "k -> k")),
    "WPCA": (
        Rule("WPCA.0.weight", "{name}/kernel", "o k d 1 1 -> (d k) o"),
        Rule("WPCA.0.bias", "{name}/bias", "o -> o"),
    ),
}
