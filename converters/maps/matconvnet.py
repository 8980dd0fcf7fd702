"""From a MatConvNet net's tensors to the model's weights, by layer name or kind.

`{0}` is the first of the layer's tensors, `{1}` the second.
"""

from __future__ import annotations

from converters.layermap import Rule

__all__ = ["KINDS", "TABLE"]

_BIAS = Rule("{1}", "{name}/bias", "o -> o")
_FILTERS = (Rule("{0}", "{name}/kernel", "h w i o -> h w i o"), _BIAS)

#: Kinds of layers, MatConvNet's and NetVLAD's own.
KINDS: dict[str, tuple[Rule, ...]] = {
    "conv": _FILTERS,
    "convt": _FILTERS,
    "bnorm": (
        Rule("{0}", "{name}/multiplier", "c -> c"),
        Rule("{1}", "{name}/offset", "c -> c"),
        Rule("{2}", "{name}/mean", part=(None, 0)),
        Rule("{2}", "{name}/sigma", part=(None, 1)),
    ),
    "scale": (Rule("{0}", "{name}/multiplier"), Rule("{1}", "{name}/bias")),
    "layerVLAD": (
        Rule("{0}", "{name}/assignment", "1 1 d k -> d k"),
        Rule("{1}", "{name}/centers", "1 1 d k -> d k", sign=-1),
    ),
    "layerVLADv2": (
        Rule("{0}", "{name}/assignment", "1 1 d k -> d k"),
        Rule("{1}", "{name}/bias", "k -> k"),
        Rule("{2}", "{name}/centers", "1 1 d k -> d k", sign=-1),
    ),
}

#: A NetVLAD's, two of its layers by their names.
TABLE: dict[str, tuple[Rule, ...]] = {
    **KINDS,
    "input": (Rule("normalization/averageImage", "input/mean", part=(0, 0)),),
    "WPCA": (Rule("{0}", "{name}/kernel", "1 1 i o -> i o"), _BIAS),
}
