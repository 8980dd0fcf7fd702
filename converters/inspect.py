"""What is in a weights file: `describe`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from converters import formats
from converters.checkpoint import MEAN, Array, Checkpoint
from converters.errors import ConversionError
from converters.recognise import spec_from

__all__ = ["describe"]


def describe(path: Path) -> dict[str, Any]:
    """Layers, tensors with their sha256, mean, notes and the spec that fits, as plain data.

    Raises `ReadError` or `LayerError` for a file that is refused.
    """
    checkpoint = formats.read(path)
    origin = checkpoint.origin
    return {
        "path": str(origin.path),
        "format": origin.format,
        "files": [str(file) for file in origin.files],
        "session": origin.session,
        "notes": list(origin.notes),
        "parameters": checkpoint.parameters,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "inputs": list(layer.inputs),
                "tensors": list(layer.params),
                "options": {key: _plain(value) for key, value in layer.options.items()},
                **({"output": layer.output} if layer.output else {}),
            }
            for layer in checkpoint.layers
        ],
        "tensors": {name: _tensor(array) for name, array in checkpoint.tensors.items()},
        "mean": _mean(checkpoint),
        "preprocessing": {key: _plain(value) for key, value in checkpoint.preprocessing.items()},
        **_spec(checkpoint),
    }


def _spec(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        spec = spec_from(checkpoint)
    except ConversionError as error:
        return {"spec": None, "why_no_spec": str(error)}
    data = {key: value for key, value in spec.to_dict().items() if key != "trunk"}
    sizes = {"dimension": spec.dimension, "minimum_size": spec.minimum_size}
    return {"spec": {**data, "trunk": [row.name for row in spec.trunk], **sizes}}


def _tensor(array: Array) -> dict[str, Any]:
    """Shape, type, and the sha256 of the values in C order, little-endian."""
    values = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(values.data if values.ndim else values.tobytes()).hexdigest(),
    }


def _mean(checkpoint: Checkpoint) -> list[float] | None:
    names = (MEAN, "vgg16_netvlad_pca/average_rgb", "input/mean")
    found = next((checkpoint.tensors[n] for n in names if n in checkpoint.tensors), None)
    return None if found is None else [float(v) for v in found.reshape(-1, found.shape[-1])[0]]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
