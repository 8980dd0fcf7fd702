"""The source's names, their axes, and other spellings of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "ALIASES",
    "IMAGE",
    "KNOWN",
    "Place",
    "canonical_layer",
    "canonical_weight",
    "layer_axes",
    "weight_axes",
]

#: What every net reads; the source's own first value, after the mean, is `input`.
IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an artifact keeps a layer's output or a weight.

    tensor  its name there (a Keras layer's name, a TensorFlow tensor with its `:0`).
    axes    how it lies there, a letter for each axis (`NCHW`, `NKD`, `OIHW`; `1` for an axis
            of size 1); `""`: as a capture has it, or as the format has it by itself.
    sign    -1: it is stored negated.
    """

    tensor: str
    axes: str = ""
    sign: int = 1


_LAYER_AXES: Mapping[str, str] = {
    "vlad:core": "N1KD",
    "vlad:intranorm": "N1KD",
    "max:core": "ND",
    "avg:core": "ND",
    "postL2": "ND",
    "WPCA": "ND",
    "finalL2": "ND",
}
_WEIGHT_AXES: Mapping[str, str] = {
    "WPCA/kernel": "IO",
    "vlad:core/bias": "K",
    "kernel": "HWIO",
    "bias": "O",
    "mean": "C",
    "assignment": "DK",
    "centers": "DK",
    "multiplier": "C",
    "offset": "C",
    "sigma": "C",
}

#: Spellings of names that another framework would not take as they are.
ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("vlad_core", "vlad/core", "vlad-core", "vlad.core"), "vlad:core"),
    **dict.fromkeys(
        ("vlad_intranorm", "vlad/intranorm", "vlad-intranorm", "vlad.intranorm"), "vlad:intranorm"
    ),
    **dict.fromkeys(("max_core", "max/core", "max-core", "max.core"), "max:core"),
    **dict.fromkeys(("avg_core", "avg/core", "avg-core", "avg.core"), "avg:core"),
}

#: Names that a NetVLAD's layers have, on VGG-16 and VGG-19 (`vd16`, `vd19`) and on AlexNet
#: (`caffe`, `places`); a value of such a name is taken for that layer.
_LAYERS = """
    input
    conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2
    conv3_1 relu3_1 conv3_2 relu3_2 conv3_3 relu3_3 conv3_4 relu3_4 pool3
    conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 relu4_3 conv4_4 relu4_4 pool4
    conv5_1 relu5_1 conv5_2 relu5_2 conv5_3 relu5_3 conv5_4
    conv1 pool1 relu1 norm1 conv2 pool2 relu2 norm2 conv3 relu3 conv4 relu4 conv5
    preL2 vlad:core max:core avg:core vlad:intranorm postL2 WPCA finalL2
"""
KNOWN = frozenset(_LAYERS.split())


def canonical_layer(name: str) -> str:
    """The source's name of a layer called `vlad.3Acore` or `vlad_core`; others stay as they are.

    Keras and TensorFlow forbid `:`, so a model writes each byte that they forbid as a dot and
    two hex digits.
    """
    text = re.sub(
        r"(?:\.[0-9A-F]{2})+",
        lambda match: bytes.fromhex(match[0].replace(".", "")).decode(errors="replace"),
        name,
    )
    return ALIASES.get(text, text)


def canonical_weight(name: str) -> str:
    """The same for `vlad.3Acore/centers`: the layer's name, then the weight's."""
    layer, slash, weight = name.rpartition("/")
    if weight == "mean":  # `data.mean` subtracts the mean of the input `data`
        layer = layer.removesuffix(".mean")
    return f"{canonical_layer(layer)}{slash}{weight}"


def layer_axes(layer: str) -> str:
    """The axes of a layer's output in a capture."""
    return _LAYER_AXES.get(layer, "NHWC")


def weight_axes(name: str) -> str:
    """The axes of a weight by its canonical name, `""` where the source's names have no rule."""
    return _WEIGHT_AXES.get(name) or _WEIGHT_AXES.get(name.rpartition("/")[2], "")
