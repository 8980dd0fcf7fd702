"""A MatConvNet SimpleNN net as a `.mat` file, MAT version 5, uncompressed.

Layers are plain structs in the layout that `vl_simplenn_tidy` leaves. Objects
of NetVLAD's own classes become what MATLAB's `struct(object)` makes of them,
`type` `custom` under the layer's name: that is how NetVLAD's files have been
passed on to Python before, so readers know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.io import savemat

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import LayerError

__all__ = ["write"]

Fields = dict[str, Any]

#: The file's first 116 bytes; scipy puts the date there, and two runs would differ.
_HEADER = b"MATLAB 5.0 MAT-file, a MatConvNet net written by netvlad-keras".ljust(116)
_NO_CELLS = np.empty((0, 0), dtype=object)


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` to `path`; the same checkpoint gives the same bytes.

    `path` has its old content or the whole new one, never a part. Raises
    `LayerError` for layers that SimpleNN with NetVLAD's classes does not have,
    and `OSError` where the file cannot be written.
    """
    strange = {
        layer.name: f"there is no way to write a {layer.kind}"
        for layer in checkpoint.layers
        if layer.kind not in _KINDS
    }
    if strange:
        raise LayerError(path, strange, advice=f"known kinds: {', '.join(_KINDS)}")
    layers = [_layer(layer, checkpoint.tensors) for layer in checkpoint.layers]
    net = {"layers": _cells(layers), "meta": _meta(checkpoint)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        new = Path(folder) / path.name
        with new.open("wb") as file:
            savemat(file, {"net": net}, oned_as="row")
            file.seek(0)
            file.write(_HEADER)
        new.replace(path)


def _layer(layer: Layer, tensors: Mapping[str, Array]) -> Fields:
    """One layer's struct: `type`, `name`, its settings, its weights."""
    weights = [tensors[name] for name in layer.params]
    if layer.name == "WPCA":
        weights[1:] = [bias.reshape(-1, 1) for bias in weights[1:]]  # a column, as addPCA.m has it
    fields = {
        "type": layer.kind if layer.kind in _SETTINGS else "custom",
        "name": layer.name,
        "weights": _cells(weights) if weights else _NO_CELLS,
        "precious": np.uint8(0),
    }
    if layer.kind in _WITH_OPTS:
        fields["opts"] = _NO_CELLS
    if layer.kind in _SETTINGS:
        fields |= {name: _plain(layer.options[name]) for name in _SETTINGS[layer.kind]}
    elif layer.kind in _VLAD:
        width, clusters = weights[0].shape[2:]
        fields |= {"K": float(clusters), "D": float(width), "vladDim": float(clusters * width)}
    return fields


#: MatConvNet's own kinds and the settings that they have.
_SETTINGS = {
    "conv": ("pad", "stride", "dilate"),
    "pool": ("method", "pool", "stride", "pad"),
    "relu": ("leak",),
    "normalize": ("param",),
}
_WITH_OPTS = ("conv", "pool")
_VLAD = ("layerVLAD", "layerVLADv2")
_KINDS = (*_SETTINGS, *_VLAD, "layerWholeL2Normalize", "layerTotalMaxPool", "layerTotalAvgPool")


def _meta(checkpoint: Checkpoint) -> Fields:
    normalization = {key: _plain(value) for key, value in checkpoint.preprocessing.items()}
    if MEAN in checkpoint.tensors:
        normalization["averageImage"] = checkpoint.tensors[MEAN]
    session = checkpoint.origin.session
    return {"normalization": normalization, "netID": session.split("_")[0], "sessionID": session}


def _plain(value: Any) -> Any:
    """MATLAB's numbers are double precision."""
    return value if isinstance(value, str) else np.atleast_2d(np.asarray(value, np.float64))


def _cells(items: list[Any]) -> Array:
    cells = np.empty((1, len(items)), dtype=object)
    for i, item in enumerate(items):
        cells[0, i] = item
    return cells
