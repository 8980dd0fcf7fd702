"""NetVLAD's layers in MatConvNet's vocabulary, for sources that hold weights alone.

The order is that of the published nets: a max-pool stands before the relu of its block, and
the last convolution has neither (Relja/netvlad, addLayers.m, addPCA.m).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["KINDS", "RECORD"]

_CONV: Mapping[str, Any] = {"kind": "conv", "stride": (1, 1), "pads": (1, 1, 1, 1)}
_POOL: Mapping[str, Any] = {
    "kind": "pool",
    "kernel": (2, 2),
    "stride": (2, 2),
    "pads": (0, 0, 0, 0),
}
_ROWS: Mapping[str, Mapping[str, Any]] = {"conv": _CONV, "pool": _POOL, "relu": {"kind": "relu"}}
_VGG16 = (
    *("conv1_1", "relu1_1", "conv1_2", "pool1", "relu1_2"),
    *("conv2_1", "relu2_1", "conv2_2", "pool2", "relu2_2"),
    *("conv3_1", "relu3_1", "conv3_2", "relu3_2", "conv3_3", "pool3", "relu3_3"),
    *("conv4_1", "relu4_1", "conv4_2", "relu4_2", "conv4_3", "pool4", "relu4_3"),
    *("conv5_1", "relu5_1", "conv5_2", "relu5_2", "conv5_3"),
)

#: Of the published net, in the form in which a Keras file of this project records its own.
RECORD: Mapping[str, Any] = {
    "trunk": tuple({"name": name, **_ROWS[name[:4]]} for name in _VGG16),
    "pooling": "vlad",
    "prel2": True,
    "intranorm": True,
}

#: A pooling of such a record -> the layer's name and kind.
KINDS: Mapping[str, tuple[str, str]] = {
    "vlad": ("vlad:core", "layerVLAD"),
    "vladv2": ("vlad:core", "layerVLADv2"),
    "max": ("max:core", "layerTotalMaxPool"),
    "avg": ("avg:core", "layerTotalAvgPool"),
}
