"""safetensors of hloc's NetVLAD module and of pytorch-NetVlad's (and Patch-NetVLAD's) model.

Which of them it is their parameters' names tell. What no parameter holds, the
metadata must say, as JSON: `mean`, what is subtracted from R, G and B on the
scale 0 to 255; or `normalize`, the arguments `mean` and `std` of torchvision's
Normalize on the scale 0 to 1; and `pooling`, where no centres are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from converters.checkpoint import Array, Checkpoint, Origin
from converters.errors import ReadError
from converters.readers.finite import not_finite

__all__ = ["read"]

#: Format -> the parameter that tells it.
_SIGNS = {"hloc": "backbone.0.weight", "pytorch_netvlad": "encoder.0.weight"}
_POOLINGS = ("vlad", "vladv2", "max", "avg")
_STATE = (
    "Save the model's state_dict() under its own names, without `module.` of DataParallel: "
    "safetensors.torch.save_file(state, path, metadata=…)."
)
_SAY = (
    'Save it with metadata={"mean": json.dumps([r, g, b])} on the scale 0 to 255, or with '
    '"normalize": json.dumps({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}), '
    "whatever the images of its training were scaled by."
)


def read(path: Path) -> Checkpoint:
    """Read every parameter under its own name, and the mean as `input/mean`.

    Axes are PyTorch's; only Patch-NetVLAD's WPCA, whose rows run k·D + d, comes
    as outputs×K×D×1×1. A `std` other than 1 on the scale 0 to 255 has no place
    in a NetVLAD: the first convolution is divided by it, and a note says so.
    Raises `ReadError`.
    """
    tensors, metadata = _content(path)
    layout = next((name for name, sign in _SIGNS.items() if sign in tensors), None)
    if layout is None:
        listing = ", ".join(list(tensors)[:4]) or "nothing"
        raise ReadError(
            path,
            f"is neither hloc's nor pytorch-NetVlad's module: it holds {listing}",
            advice=_STATE,
        )
    _refuse_tensors(path, tensors)
    mean, std = _scaling(path, metadata)
    notes = []
    if (std != 1).any():
        first = _SIGNS[layout]
        scaled = tensors[first].astype(np.float64) / std.reshape(-1, 1, 1)
        tensors[first] = scaled.astype(tensors[first].dtype)
        notes.append(f"divided: {first} by {std.tolist()}, by which its inputs were scaled")
    if "WPCA.0.weight" in tensors:
        tensors["WPCA.0.weight"] = _apart(path, tensors)
    pooling = metadata.get("pooling", "")
    if pooling and pooling not in _POOLINGS:
        reason = f"its metadata says pooling {pooling!r}"
        raise ReadError(path, reason, advice=f"Known are {', '.join(_POOLINGS)}.")
    origin = Origin(path, layout, (path,), metadata.get("net", ""), tuple(notes))
    said = {"pooling": pooling} if pooling else {}
    return Checkpoint({"input/mean": mean, **tensors}, (), said, origin)


def _content(path: Path) -> tuple[dict[str, Array], Mapping[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ReadError(path, "does not exist", advice="Give a .safetensors file.") from error
    except (OSError, SafetensorError, TypeError, KeyError, AttributeError) as error:
        raise ReadError(path, f"cannot be read: {error}", advice="Fetch it again.") from error


def _refuse_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    faults = {
        name: f"holds {t.dtype}" if t.dtype.kind != "f" else not_finite(t)
        for name, t in tensors.items()
    }
    if wrong := "".join(f"\n  {name}: {reason}" for name, reason in faults.items() if reason):
        raise ReadError(path, f"tensors refused{wrong}", advice="Weights are finite floats.")


def _scaling(path: Path, metadata: Mapping[str, str]) -> tuple[Array, Array]:
    """What is subtracted from an image of 0 to 255, and what it is divided by then."""
    try:
        if "mean" in metadata:
            mean, std = _three(json.loads(metadata["mean"])), np.ones(3)
            if 0 < mean.max() <= 1:
                raise ValueError("mean lies between 0 and 1, where 0 to 255 is meant")
        elif "normalize" in metadata:
            said = json.loads(metadata["normalize"])
            mean, std = _three(said["mean"]) * 255, _three(said["std"]) * 255
            if std.min() <= 0:
                raise ValueError("std must be positive")
        else:
            raise ReadError(path, "its metadata does not say how images are scaled", advice=_SAY)
    except (ValueError, TypeError, KeyError) as error:
        raise ReadError(path, f"its metadata cannot be read: {error}", advice=_SAY) from error
    single = mean.astype(np.float32)
    return single if (single == mean).all() else mean, std


def _three(values: Any) -> Array:
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(f"{values} where three numbers belong")
    return numbers


def _apart(path: Path, tensors: Mapping[str, Array]) -> Array:
    """WPCA's weight with K and D as axes of their own; K is 1 behind a total pooling."""
    weight, centres = tensors["WPCA.0.weight"], tensors.get("pool.centroids")
    clusters = 1 if centres is None else centres.shape[0]
    if weight.ndim != 4 or weight.shape[2:] != (1, 1) or weight.shape[1] % clusters:
        reason = f"WPCA.0.weight of shape {weight.shape} behind {clusters} clusters"
        raise ReadError(path, reason, advice=_STATE)
    return weight.reshape(weight.shape[0], clusters, -1, 1, 1)
