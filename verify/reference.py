"""The source as the oracle executes it: `reference`, and its weights by canonical name.

A MatConvNet file holds its layers; for a TensorFlow checkpoint or a Keras file they are put
together from `verify.names`, with MatConvNet's constants.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters import sandbox
from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import ConversionError, MappingError, ReadError
from verify.axes import turned
from verify.names import netvlad_tf
from verify.names.canonical import Place, weight_axes
from verify.names.matconvnet import MERGED, MOMENTS, NAMED, SUBTRACTED, WEIGHTS
from verify.names.netvlad import KINDS, RECORD
from verify.names.torch_modules import PARAMETERS
from verify.names.weights import KERAS, by_name, placed
from verify.oracle import published_mean

__all__ = ["cropped", "declared_crop", "reference", "source", "subtracts", "weights_of"]

#: A file's ending -> what reads it; any other path is a TensorFlow checkpoint's.
_READERS: Mapping[str, str] = {
    ".mat": "converters.readers.matconvnet",
    ".h5": "converters.readers.keras_h5",
    ".keras": "converters.readers.keras_h5",
    ".safetensors": "converters.readers.safetensors",
}
_CHECKPOINT = "converters.readers.tf_checkpoint"
#: Format of a source without layers -> what its weights are called; Keras's names are the model's.
_NAMES: Mapping[str, Mapping[str, Place]] = {"tf_checkpoint": netvlad_tf.VARIABLES, **PARAMETERS}
_COMPOSED = (
    "it holds no layers: executed as MatConvNet has them, L2 norms with 1e-12 under the root"
)
_CROP = re.compile(r"WPCA cropped to its first (\d+) outputs")


def reference(path: Path, dimension: int | None = None) -> Checkpoint:
    """A source with MatConvNet's layers, its whitening cut to `dimension` outputs if one is given.

    Raises the reader's typed errors, `MappingError` for weights that are not a NetVLAD's, and
    `ConversionError` for a crop that cannot be.
    """
    checkpoint = source(path)
    if not checkpoint.layers:
        checkpoint = _composed(checkpoint)
    return checkpoint if dimension is None else cropped(checkpoint, dimension)


def source(path: Path) -> Checkpoint:
    """What a source's own reader gives. Raises its typed errors."""
    return sandbox.read(path, _READERS.get(path.suffix.lower(), _CHECKPOINT))


def cropped(checkpoint: Checkpoint, dimension: int) -> Checkpoint:
    """The net that keeps the first `dimension` outputs of its whitening."""
    names = next((layer.params for layer in checkpoint.layers if layer.name == "WPCA"), ())
    width = checkpoint.tensors[names[0]].shape[-1] if names else 0
    if not 1 <= dimension <= width:
        raise ConversionError(
            f"{checkpoint.origin.path}: cannot be cropped to {dimension} dimensions; "
            + (f"its whitening has {width}" if width else "it has no whitening")
        )
    own = {name: checkpoint.tensors[name][..., :dimension] for name in names}
    return replace(checkpoint, tensors={**checkpoint.tensors, **own})


def declared_crop(manifest: Mapping[str, Any]) -> int | None:
    """To how many dimensions a manifest says that the whitening was cut."""
    lines = map(str, manifest.get("transformations", ()))
    found = [match for line in lines if (match := _CROP.search(line))]
    return int(found[0][1]) if found else None


def weights_of(checkpoint: Checkpoint) -> dict[str, Array]:
    """Every weight by canonical name and with canonical axes, in the source's own precision.

    `input/mean` is the first pixel of the average image, as NetVLAD takes it. What no canonical
    name fits goes under its own.
    """
    if not checkpoint.layers:
        names = _NAMES.get(checkpoint.origin.format, {})
        found = by_name(checkpoint.tensors, KERAS, names)
        if (kernel := found.get("WPCA/kernel")) is not None and kernel.ndim == 5:
            found["WPCA/kernel"] = _d_slowest(kernel)
        return found
    found = {}
    left = dict(checkpoint.tensors)
    mean = left.pop(MEAN, None)
    if mean is not None and published_mean(checkpoint) is not None:
        found["input/mean"] = mean[0, 0]
    for layer in checkpoint.layers:
        if layer.kind in MERGED.values():
            found |= _folded(layer, [left.pop(name) for name in layer.params])
            continue
        if layer.kind == SUBTRACTED and mean is not None:
            flat = bool((mean == mean[:1, :1]).all())
            found[f"{layer.inputs[0]}/mean"] = mean[0, 0] if flat else mean
        row = NAMED.get(layer.name) or WEIGHTS.get(layer.kind, ())
        for own, place in zip(layer.params, row, strict=False):
            if own in left:  # a tensor that layers share is its first reader's
                found |= _named(f"{layer.name}/{place.tensor}", left.pop(own), place)
    return {**found, **left}


def _d_slowest(kernel: Array) -> Array:
    """O×K×D×1×1, as pytorch-NetVlad's descriptor runs, as a matrix of rows d·K + k."""
    return turned(kernel, "OKD11", "DKO").reshape(-1, len(kernel))


def subtracts(checkpoint: Checkpoint) -> bool:
    """Whether the net's own first step is to subtract its mean: a NetVLAD's is."""
    return published_mean(checkpoint) is not None


def _folded(layer: Layer, weights: Sequence[Array]) -> dict[str, Array]:
    """A convolution's weights with its batch norm in them, rounded once (vl_nnbnorm.m)."""
    kernel, *rest = weights
    scale, offset, moments = (part.astype(np.float64) for part in rest[-3:])
    slope = scale / moments[:, 1]
    axis = {MERGED["conv"]: 3, MERGED["convt"]: 2}[layer.kind]
    lengthwise = slope.reshape([-1 if i == axis else 1 for i in range(4)])
    bias = rest[0].astype(np.float64) if len(rest) == 4 else 0.0
    return {
        f"{layer.name}/kernel": (kernel.astype(np.float64) * lengthwise).astype(kernel.dtype),
        f"{layer.name}/bias": ((bias - moments[:, 0]) * slope + offset).astype(kernel.dtype),
    }


def _named(name: str, array: Array, place: Place) -> dict[str, Array]:
    if place.tensor == "moments":
        stem = name.removesuffix("moments")
        return {f"{stem}{part}": array[:, column] for column, part in enumerate(MOMENTS)}
    return {name: placed(array if place.sign == 1 else np.negative(array), place.axes, name)}


def _composed(checkpoint: Checkpoint) -> Checkpoint:
    """A source of weights alone as MatConvNet holds the net."""
    path = checkpoint.origin.path
    weights = weights_of(checkpoint)
    record = checkpoint.preprocessing.get("spec") or _record(checkpoint, weights)
    try:
        width = weights[f"{record['trunk'][-1]['name']}/kernel"].shape[-1]
        rows = list(_rows(record, width, "WPCA/kernel" in weights))
    except (KeyError, IndexError, TypeError) as error:
        raise ReadError(path, f"is not a NetVLAD that is known: {error} is missing") from error
    places = {
        f"{name}/{place.tensor}": (f"{name}/weights/{number}", place)
        for name, kind, _ in rows
        for number, place in enumerate(NAMED.get(name) or WEIGHTS.get(kind, ()))
    }
    missing = [name for name in (*places, "input/mean") if name not in weights]
    unexpected = [name for name in weights if name not in places and name != "input/mean"]
    if missing or unexpected:
        raise MappingError(missing, unexpected, advice=f"{path} is not a NetVLAD that is known.")
    tensors = {own: _as_matconvnet(weights[n], n, place) for n, (own, place) in places.items()}
    layers = []
    for before, (name, kind, options) in zip(
        ["input", *(row[0] for row in rows)], rows, strict=False
    ):
        params = tuple(own for own in tensors if own.startswith(f"{name}/weights/"))
        layers.append(Layer(name, kind, (before,), params, options))
    return replace(
        checkpoint,
        tensors={MEAN: weights["input/mean"].reshape(1, 1, -1), **tensors},
        layers=tuple(layers),
        origin=replace(checkpoint.origin, notes=(*checkpoint.origin.notes, _COMPOSED)),
    )


def _record(checkpoint: Checkpoint, weights: Mapping[str, Array]) -> Mapping[str, Any]:
    """VGG-16's, with the pooling that the weights or the file's metadata say."""
    if "vlad:core/assignment" in weights:
        return {**RECORD, "pooling": "vladv2" if "vlad:core/bias" in weights else "vlad"}
    pooling = checkpoint.preprocessing.get("pooling", RECORD["pooling"])
    return {**RECORD, "pooling": pooling, "prel2": False, "intranorm": False}


def _as_matconvnet(array: Array, name: str, place: Place) -> Array:
    laid = turned(array, weight_axes(name), place.axes)
    return laid if place.sign == 1 else np.negative(laid)


def _rows(
    record: Mapping[str, Any], width: int, whitened: bool
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, kind, settings) of every layer, the head's after the trunk's."""
    across = {"param": (2.0 * width, 1e-12, 1.0, 0.5)}
    for row in record["trunk"]:
        yield row["name"], row["kind"], _SETTINGS[row["kind"]](row)
    if record["prel2"]:
        yield "preL2", "normalize", dict(across)
    yield (*KINDS[record["pooling"]], {})
    if record["intranorm"]:
        yield "vlad:intranorm", "normalize", dict(across)
    yield "postL2", "layerWholeL2Normalize", {}
    if whitened:
        yield "WPCA", "conv", {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (1, 1)}
        yield "finalL2", "layerWholeL2Normalize", {}


_SETTINGS: Mapping[str, Any] = {
    "conv": lambda row: {
        "pad": tuple(row["pads"]),
        "stride": tuple(row["stride"]),
        "dilate": (1, 1),
    },
    "pool": lambda row: {
        "method": "max",
        "pool": tuple(row["kernel"]),
        "stride": tuple(row["stride"]),
        "pad": tuple(row["pads"]),
    },
    "relu": lambda row: {"leak": 0.0},
    "normalize": lambda row: {"param": tuple(float(value) for value in row["lrn"])},
}
