"""Whether a checkpoint can be a net: looked at after the parse, whoever parsed it.

Types, shapes that fit their layer, settings that can be meant, and how many numbers there are.
That the values are finite the readers have seen, who pass over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from converters.checkpoint import Checkpoint, Layer
from converters.errors import LayerError, ReadError

__all__ = ["PARAMETERS", "check"]

#: How many numbers a net may have, unless more are asked for; the largest NetVLAD has 149 million.
PARAMETERS = 1_000_000_000

_ADVICE = "The file is damaged or not what it says: fetch it again and compare its checksum."
_LONGEST = 1 << 31  # of an axis
_WIDEST = 1 << 16  # of a stride, pad, window or dilation
#: Setting -> the least that it can be.
_SETTINGS = {
    "stride": 1, "pad": 0, "pool": 1, "dilate": 1, "upsample": 1, "crop": 0, "numGroups": 1,
}  # fmt: skip


def check(checkpoint: Checkpoint, parameters: int = PARAMETERS) -> None:
    """Raise `ReadError` or `LayerError` for what no net can have."""
    path = checkpoint.origin.path
    count = checkpoint.parameters
    if count > parameters:
        raise ReadError(
            path,
            f"holds {count:,} parameters, more than the {parameters:,} that are read unasked",
            advice=f"If it is meant to be so large: --max-parameters {count}",
        )
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype.kind not in "biuf" or max(tensor.shape, default=0) >= _LONGEST:
            reason = f"{name} is a {tensor.dtype} array of shape {tensor.shape}"
            raise ReadError(path, reason, advice=_ADVICE)
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    faults = {
        layer.name: "; ".join(found)
        for layer in checkpoint.layers
        if (found := [*_settings(layer), *_shapes(layer, shapes)])
    }
    if faults:
        raise LayerError(path, faults, advice=_ADVICE)


def _settings(layer: Layer) -> Iterator[str]:
    for name, least in _SETTINGS.items():
        value: Any = layer.options.get(name, ())
        numbers = value if isinstance(value, tuple) else (value,)
        wrong = [n for n in numbers if isinstance(n, int | float) and not least <= n <= _WIDEST]
        if wrong:
            yield f"{name} is {value}, outside {least} to {_WIDEST}"


def _shapes(layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """What does not fit among a layer's own tensors."""
    own = [shapes[name] for name in layer.params if name in shapes]
    if len(own) < len(layer.params):
        yield "names tensors that are not there"
        return
    if any(0 in shape for shape in own):
        yield f"has an empty tensor: {own}"
    elif layer.kind in _OUTPUTS and len(own) > 1 and len(own[0]) == 4:
        groups = layer.options.get("numGroups", 1) if layer.kind == "convt" else 1
        outputs = own[0][_OUTPUTS[layer.kind]] * groups
        if own[1] != (outputs,):
            yield f"has filters {own[0]} and biases {own[1]}, where {outputs} belong"
    elif layer.kind == "bnorm" and len({shape[0] for shape in own}) > 1:
        yield f"has weights of different lengths: {own}"
    elif layer.kind == "layerVLAD" and len(set(own)) > 1:
        yield f"has an assignment {own[0]} and centres {own[-1]}, which differ"
    elif layer.kind == "layerVLADv2" and (own[0] != own[-1] or own[1] != own[0][-1:]):
        yield f"has weights {own}, which do not fit each other"


#: Kind -> which axis of its filters counts its outputs.
_OUTPUTS = {"conv": 3, "convt": 2}
