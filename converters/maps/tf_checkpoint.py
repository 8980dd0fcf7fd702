"""From netvlad_tf_open's variables (python/netvlad_tf/nets.py) to the model's weights."""

from __future__ import annotations

from converters.layermap import Rule

__all__ = ["TABLE"]

TABLE: dict[str, tuple[Rule, ...]] = {
    "input": (Rule("vgg16_netvlad_pca/average_rgb", "input/mean", "c -> c"),),
    "conv": (
        Rule("vgg16_netvlad_pca/{name}/kernel", "{name}/kernel", "h w i o -> h w i o"),
        Rule("vgg16_netvlad_pca/{name}/bias", "{name}/bias", "o -> o"),
    ),
    "layerVLAD": (
        Rule("vgg16_netvlad_pca/assignment/kernel", "{name}/assignment", "1 1 d k -> d k"),
        Rule("vgg16_netvlad_pca/cluster_centers", "{name}/centers", "1 1 1 d k -> d k", sign=-1),
    ),
    "WPCA": (
        Rule("vgg16_netvlad_pca/WPCA/kernel", "WPCA/kernel", "1 1 i o -> i o"),
        Rule("vgg16_netvlad_pca/WPCA/bias", "WPCA/bias", "o -> o"),
    ),
}
