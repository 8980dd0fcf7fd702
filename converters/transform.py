"""Changes that make another net of a checkpoint: cut it, or merge its batch norms. NumPy only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import ConversionError, LayerError

__all__ = ["Change", "keep_outputs", "merge_batchnorm", "until"]


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a checkpoint, and in words for the manifest, which `verify` reads."""

    words: str
    apply: Callable[[Checkpoint], Checkpoint]


def until(name: str) -> Change:
    """The net ends with layer `name`; what that does not need is left out."""
    return Change(f"cut behind {name}", lambda checkpoint: _needed(checkpoint, [name]))


def keep_outputs(names: Sequence[str]) -> Change:
    """The net's outputs are these layers, by their names or their variables'."""
    words = f"outputs: {', '.join(names)}"
    return Change(words, lambda checkpoint: _needed(checkpoint, names))


def merge_batchnorm() -> Change:
    """Batch norms that follow a convolution become part of it."""
    return Change("batch norms merged into the convolutions before them", _merged)


def _needed(checkpoint: Checkpoint, names: Sequence[str]) -> Checkpoint:
    layers = {layer.name: layer for layer in checkpoint.layers}
    variables = {layer.output: layer.name for layer in checkpoint.layers if layer.output}
    wanted = [name if name in layers else variables.get(name, name) for name in names]
    if unknown := [name for name in wanted if name not in layers]:
        raise ConversionError(
            f"{checkpoint.origin.path}: there is no layer {', '.join(unknown)}",
            advice=f"its layers are {', '.join(layers)}",
        )
    needed: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in layers and name not in needed:
            needed.add(name)
            waiting += layers[name].inputs
    kept = tuple(layer for layer in checkpoint.layers if layer.name in needed)
    return _with_layers(checkpoint, kept, outputs=tuple(wanted))


def _with_layers(
    checkpoint: Checkpoint, layers: Sequence[Layer], outputs: tuple[str, ...]
) -> Checkpoint:
    read = {MEAN, *(name for layer in layers for name in layer.params)}
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name in read}
    return replace(checkpoint, layers=tuple(layers), tensors=tensors, outputs=outputs)


def _merged(checkpoint: Checkpoint) -> Checkpoint:
    layers = {layer.name: layer for layer in checkpoint.layers}
    readers = Counter(name for layer in checkpoint.layers for name in layer.inputs)
    shared = Counter(name for layer in checkpoint.layers for name in layer.params)
    pairs: dict[str, str] = {}
    faults: dict[str, str] = {}
    for norm in (layer for layer in checkpoint.layers if layer.kind == "bnorm"):
        before = layers.get(norm.inputs[0])
        if before is None or before.kind not in _CHANNELS:
            faults[norm.name] = "no convolution stands before it"
        elif readers[before.name] > 1 or before.name in checkpoint.outputs:
            faults[norm.name] = f"{before.name} is read by others too"
        elif any(shared[name] > 1 for name in (*before.params, *norm.params)):
            faults[norm.name] = "it, or the convolution before it, shares its weights"
        else:
            pairs[norm.name] = before.name
    if faults or not pairs:
        faults = faults or {"(net)": "it has no batch norm"}
        raise LayerError(
            checkpoint.origin.path, faults, advice="Convert it without --merge-batchnorm."
        )
    tensors = dict(checkpoint.tensors)
    made: dict[str, Layer] = {}
    for name, conv_name in pairs.items():
        conv, norm = layers[conv_name], layers[name]
        kernel, bias = _folded(conv, [checkpoint.tensors[p] for p in (*conv.params, *norm.params)])
        own = conv.params[0], conv.params[1] if len(conv.params) > 1 else norm.params[1]
        tensors |= {own[0]: kernel, own[1]: bias}
        made[conv_name] = replace(conv, params=own, output=norm.output)
    kept = [
        replace(made.get(layer.name, layer), inputs=tuple(pairs.get(n, n) for n in layer.inputs))
        for layer in checkpoint.layers
        if layer.name not in pairs
    ]
    outputs = tuple(pairs.get(name, name) for name in checkpoint.outputs)
    return _with_layers(replace(checkpoint, tensors=tensors), kept, outputs)


#: Kind -> the axis of the filters that is the output's channels.
_CHANNELS = {"conv": 3, "convt": 2}


def _folded(conv: Layer, weights: Sequence[Array]) -> tuple[Array, Array]:
    """Filters and bias that do what the convolution and its batch norm do, in the filters' type.

    multiplier · (w·x + b - mean) / sigma + offset, computed in float64.
    """
    kernel, *rest = weights
    multiplier, offset, moments = (each.astype(np.float64) for each in rest[-3:])
    mean, sigma = moments.T
    bias = rest[0].astype(np.float64) if len(rest) == 4 else np.zeros_like(mean)
    slope = multiplier / sigma
    axis = _CHANNELS[conv.kind]
    if slope.size != kernel.shape[axis]:  # transposed, in groups: each has the same outputs
        raise LayerError("(net)", {conv.name: "a transposed convolution in groups"})
    shape = [1] * kernel.ndim
    shape[axis] = -1
    scaled = kernel.astype(np.float64) * slope.reshape(shape)
    shifted = (bias - mean) * slope + offset
    return scaled.astype(kernel.dtype), shifted.astype(kernel.dtype)
