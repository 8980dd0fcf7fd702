"""The safetensors format: eight bytes of length, a JSON header, the arrays.

Laid out here rather than by the library, which writes the metadata in an order
of chance and an array in Fortran order with its elements out of place. What is
written is read with the library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint

__all__ = ["facts", "save"]

_DTYPE = np.dtype("<f4")


def save(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write `tensors` as float32; the same ones give the same bytes.

    `path` has its old content or the whole new one. Raises `OSError`.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.size * _DTYPE.itemsize
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the arrays begin at a multiple of eight
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        new = Path(folder) / path.name
        with new.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in tensors.values():
                file.write(np.ascontiguousarray(tensor, _DTYPE).data.cast("B"))
        new.replace(path)


def facts(checkpoint: Checkpoint, pooling: str) -> dict[str, str]:
    """What a module's parameters do not say: the pooling, and the mean on the scale 0 to 255."""
    mean = [float(value) for value in checkpoint.tensors[MEAN][0, 0]]
    session = checkpoint.origin.session
    return {"format": "pt", "net": session, "pooling": pooling, "mean": json.dumps(mean)}
