"""What a net takes and gives, in words and numbers: for the manifest, the card, the ONNX file."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Checkpoint
from converters.handoff import Spec
from netvlad_keras.spec import NetVLADSpec

__all__ = ["inputs", "outputs", "preprocessing", "published"]


def inputs(spec: Spec) -> list[dict[str, Any]]:
    """Every input: name, shape, type and smallest size; range and colours where they are known."""
    smallest = spec.minimum_size
    known = {"colours": "RGB", "range": [0, 255]} if isinstance(spec, NetVLADSpec) else {}
    return [
        {
            "name": name,
            "shape": ["batch", "height", "width", channels],
            "dtype": "float32",
            **known,
            "minimum_height": smallest,
            "minimum_width": smallest,
        }
        for name, channels in spec.inputs
    ]


def outputs(spec: Spec) -> list[dict[str, Any]]:
    """Every output: its name, the layer that makes it, what is known of its shape."""
    if isinstance(spec, NetVLADSpec):
        ((layer, name),) = spec.outputs
        shape = ["batch", spec.dimension]
        return [{"name": name, "layer": layer, "shape": shape, "dtype": "float32", "norm": 1}]
    return [{"name": name, "layer": layer, "dtype": "float32"} for layer, name in spec.outputs]


def preprocessing(spec: Spec) -> str:
    """What is left to do before an image goes in, in a sentence."""
    if isinstance(spec, NetVLADSpec):
        return "none but decoding to RGB, 0 to 255: the mean is subtracted inside"
    if spec.mean is not None:
        return "as the source says under `preprocessing`; its averageImage is subtracted inside"
    return "as the source says under `preprocessing`; nothing is done inside"


def published(checkpoint: Checkpoint) -> dict[str, Any]:
    """`meta.normalization` as the source has it: settings, and the mean if it is one pixel's."""
    found: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in checkpoint.preprocessing.items()
    }
    if MEAN in checkpoint.tensors:
        mean = checkpoint.tensors[MEAN]
        flat = bool(np.all(mean == mean[:1, :1]))
        words = f"an image of {'×'.join(map(str, mean.shape))}"
        found["averageImage"] = [float(value) for value in mean[0, 0]] if flat else words
    return found
