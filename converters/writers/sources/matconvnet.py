"""A MatConvNet net as a `.mat` file, MAT version 5, uncompressed.

A chain of layers is a SimpleNN: plain structs in the layout that
`vl_simplenn_tidy` leaves. Objects of NetVLAD's own classes become what
MATLAB's `struct(object)` makes of them, `type` `custom` under the layer's name:
that is how NetVLAD's files have been passed on to Python before, so readers
know it. MatConvNet loads these structs; only the classes can run them. Any
other net is a DagNN, as its `saveobj` gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.io import savemat

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import LayerError
from converters.writers.sources import dagnn
from converters.writers.sources.mat_structs import NO_CELLS, Fields, cells, plain

__all__ = ["write"]

#: The file's first 116 bytes; scipy puts the date there, and two runs would differ.
_HEADER = b"MATLAB 5.0 MAT-file, a MatConvNet net written by netvlad-keras".ljust(116)
_VLAD = ("layerVLAD", "layerVLADv2")
#: NetVLAD's classes, which hold no settings.
_CUSTOM = (*_VLAD, "layerWholeL2Normalize", "layerTotalMaxPool", "layerTotalAvgPool")
#: What vl_simplenn calls by another name than the settings' table.
_TYPES = {"normoffset": "noffset"}
_FIELD_NAME = 31
_WITH_OPTS = ("conv", "convt", "pool")
_WITH_BIAS = ("conv", "convt")


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` to `path`; the same checkpoint gives the same bytes.

    `path` has its old content or the whole new one, never a part. Raises
    `LayerError` for layers that MATLAB's classes cannot say, and `OSError`
    where the file cannot be written.
    """
    faults = dict(_faults(checkpoint))
    if faults:
        raise LayerError(path, faults, advice="NetVLAD's classes are SimpleNN's, and in a chain.")
    if _is_chain(checkpoint):
        layers = [_layer(layer, checkpoint.tensors) for layer in checkpoint.layers]
        net: Fields = {"layers": cells(layers), "meta": _meta(checkpoint)}
    else:
        net = {**dagnn.saved(checkpoint), "meta": _meta(checkpoint)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        new = Path(folder) / path.name
        with new.open("wb") as file:
            savemat(file, {"net": net}, oned_as="row", long_field_names=_has_long(checkpoint))
            file.seek(0)
            file.write(_HEADER)
        new.replace(path)


def _faults(checkpoint: Checkpoint) -> Mapping[str, str]:
    """Layer -> why MATLAB cannot have it."""
    faults = {} if checkpoint.layers else {"(net)": "holds weights alone, no layers"}
    chain = _is_chain(checkpoint)
    for layer in checkpoint.layers:
        strange = [p for p in layer.params if checkpoint.tensors[p].dtype.itemsize < 4]
        if strange:
            faults[layer.name] = f"{strange[0]} has half precision, which MATLAB lacks"
        if layer.kind in _CUSTOM and not chain:
            faults[layer.name] = f"there is no way to write a {layer.kind} outside a chain"
    return faults


def _has_long(checkpoint: Checkpoint) -> bool:
    """Whether a setting's name is longer than MATLAB's old limit."""
    named = (checkpoint.preprocessing, *(layer.options for layer in checkpoint.layers))
    return any(len(name) > _FIELD_NAME for settings in named for name in settings)


def _is_chain(checkpoint: Checkpoint) -> bool:
    """Whether each layer reads the one before it alone, and its weights are its own."""
    before = "input"
    for layer in checkpoint.layers:
        own = tuple(f"{layer.name}/weights/{n}" for n in range(len(layer.params)))
        if layer.inputs != (before,) or layer.output or layer.params != own:
            return False
        before = layer.name
    return True


def _layer(layer: Layer, tensors: Mapping[str, Array]) -> Fields:
    """One layer's struct: `type`, `name`, its settings, its weights."""
    weights = [tensors[name] for name in layer.params]
    if layer.name == "WPCA":
        weights[1:] = [bias.reshape(-1, 1) for bias in weights[1:]]  # a column, as addPCA.m has it
    if layer.kind in _WITH_BIAS and len(weights) == 1:
        weights.append(np.empty((0, 0), weights[0].dtype))  # vl_simplenn looks for two
    fields = {
        "type": "custom" if layer.kind in _CUSTOM else _TYPES.get(layer.kind, layer.kind),
        "name": layer.name,
        "weights": cells(weights) if weights else NO_CELLS,
        "precious": np.uint8(0),
    }
    if layer.kind in _WITH_OPTS:
        fields["opts"] = NO_CELLS
    if layer.kind in _VLAD:
        width, clusters = weights[0].shape[2:]
        fields |= {"K": float(clusters), "D": float(width), "vladDim": float(clusters * width)}
    return fields | {name: plain(value) for name, value in layer.options.items()}


def _meta(checkpoint: Checkpoint) -> Fields:
    normalization = {key: plain(value) for key, value in checkpoint.preprocessing.items()}
    if MEAN in checkpoint.tensors:
        normalization["averageImage"] = checkpoint.tensors[MEAN]
    session = checkpoint.origin.session
    return {"normalization": normalization, "netID": session.split("_")[0], "sessionID": session}
