"""A MatConvNet DagNN as `net.saveobj()` gives it; `dagnn.DagNN.loadobj` loads it.

Classes and properties: MatConvNet 1.0-beta25, `matlab/+dagnn`. `Times` and
`Flatten` are people's own classes, which MATLAB needs on its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.writers.sources.mat_structs import Fields, cells, plain, structs

__all__ = ["saved"]

_CLASSES = {
    "conv": "Conv",
    "convt": "ConvTranspose",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "SoftMax",
    "bnorm": "BatchNorm",
    "dropout": "DropOut",
    "normalize": "LRN",
    "spnorm": "SpatialNorm",
    "normoffset": "NormOffset",
    "concat": "Concat",
    "sum": "Sum",
    "product": "Times",
    "scale": "Scale",
    "crop": "Crop",
    "flatten": "Flatten",
    "bilinearsampler": "BilinearSampler",
    "affinegrid": "AffineGridGenerator",
}
_RENAMED = {("pool", "pool"): "poolSize"}


def saved(checkpoint: Checkpoint) -> Fields:
    """`layers`, `vars` and `params` of the saved net."""
    made = {layer.name: layer.output or layer.name for layer in checkpoint.layers}
    layers = [_layer(layer, made, checkpoint.tensors) for layer in checkpoint.layers]
    read = [made.get(name, name) for layer in checkpoint.layers for name in layer.inputs]
    variables = dict.fromkeys([*read, *made.values()])
    params = [
        {"name": name, "value": tensor}
        for name, tensor in checkpoint.tensors.items()
        if name != MEAN
    ]
    return {
        "layers": structs(layers),
        "vars": structs([{"name": name, "precious": np.uint8(0)} for name in variables]),
        "params": structs(params),
    }


def _layer(layer: Layer, made: Mapping[str, str], tensors: Mapping[str, Array]) -> Fields:
    name = _CLASSES.get(layer.kind, layer.kind.removeprefix("dagnn."))
    return {
        "name": layer.name,
        "type": f"dagnn.{name}",
        "inputs": cells([made.get(variable, variable) for variable in layer.inputs]),
        "outputs": cells([made[layer.name]]),
        "params": cells(list(layer.params)),
        "block": _block(layer, tensors),
    }


def _block(layer: Layer, tensors: Mapping[str, Array]) -> Fields:
    """The block's properties: our settings, and the sizes that its class keeps of its weights."""
    block: dict[str, Any] = {
        _RENAMED.get((layer.kind, key), key): plain(value) for key, value in layer.options.items()
    }
    shape = tensors[layer.params[0]].shape if layer.params else ()
    if layer.kind in ("conv", "convt"):
        block |= {"size": plain(shape), "hasBias": len(layer.params) > 1}
    elif layer.kind == "bnorm":
        block["numChannels"] = plain(shape[0])
    elif layer.kind == "scale":
        block |= {"hasBias": bool(layer.options["hasBias"])}
    return block
