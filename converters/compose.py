"""A `Checkpoint` in MatConvNet's vocabulary, out of a spec and its tensors.

The layers and their settings are those of the published files (NetVLAD's
`addLayers.m` and `addPCA.m`) after the upgrades of `vl_simplenn_tidy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint, Layer, Origin
from converters.errors import MappingError
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import Row

__all__ = ["clusters", "compose", "shapes"]

#: What `imagenet-vgg-verydeep-16` says of its input; NetVLAD takes any size.
_NORMALIZATION = {
    "imageSize": (224.0, 224.0, 3.0),
    "interpolation": "bicubic",
    "border": (32.0, 32.0),
}


def compose(spec: NetVLADSpec, tensors: Mapping[str, Array]) -> Checkpoint:
    """The net of `spec` with these `tensors`, as a reader of MatConvNet files gives it.

    `tensors` are named and shaped as `shapes(spec)` says; the mean and the
    session's name are the spec's. Raises `MappingError` with every tensor that
    is missing, unexpected or misshapen.
    """
    expected = shapes(spec)
    misfits = {
        name: f"has shape {tensor.shape}, the layer takes {expected[name]}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name]
    }
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected or misfits:
        raise MappingError(missing, unexpected, misfits)
    return Checkpoint(
        tensors={
            MEAN: np.asarray(spec.mean, np.float32).reshape(1, 1, 3),
            **{name: tensors[name] for name in expected},
        },
        layers=_layers(spec, tuple(expected)),
        preprocessing=dict(_NORMALIZATION),
        origin=Origin(Path(f"{spec.name}.mat"), "matconvnet", session=spec.name),
    )


def shapes(spec: NetVLADSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor but the mean, `<layer>/weights/<n>`, in order.

    Filters are H×W×(I/groups)×O; the weights of `vlad:core` are the assignment
    1×1×D×K, with `vladv2` its bias K, and **minus** the centres 1×1×D×K.
    """
    found: dict[str, tuple[int, ...]] = {}
    width = 3
    for row in (row for row in spec.trunk if row.kind == "conv"):
        found[f"{row.name}/weights/0"] = (*row.kernel, width // row.groups, row.width)
        found[f"{row.name}/weights/1"] = (row.width,)
        width = row.width
    grid = (1, 1, width, spec.clusters)
    head = {"vlad": (grid, grid), "vladv2": (grid, (spec.clusters,), grid)}.get(spec.pooling, ())
    found |= {f"vlad:core/weights/{n}": shape for n, shape in enumerate(head)}
    if spec.whitening:
        inputs = width * max(spec.clusters, 1)
        found["WPCA/weights/0"] = (1, 1, inputs, spec.whitening)
        found["WPCA/weights/1"] = (spec.whitening,)
    return found


def clusters(pooling: str, centers: Array, alpha: float) -> dict[str, Array]:
    """The weights of `vlad:core` for `centers` D×K, as NetVLAD's constructors set them.

    layerVLAD assigns by alpha × the centre's direction; layerVLADv2 by squared
    distance, that is by 2 alpha c and the bias −alpha ‖c‖². Both hold minus
    the centres. Computed in float64 and rounded once.
    """
    centers = centers.astype(np.float64)
    squares = np.square(centers).sum(axis=0)
    weights = {
        "vlad": (alpha * centers / np.sqrt(squares), -centers),
        "vladv2": (2 * alpha * centers, -alpha * squares, -centers),
    }[pooling]
    return {
        f"vlad:core/weights/{n}": (w[None, None] if w.ndim == 2 else w).astype(np.float32)
        for n, w in enumerate(weights)
    }


def _layers(spec: NetVLADSpec, tensors: tuple[str, ...]) -> tuple[Layer, ...]:
    rows = {row.name: row for row in spec.trunk}
    layers: list[Layer] = []
    for name, kind in spec.layers:
        before = layers[-1].name if layers else "input"
        params = tuple(tensor for tensor in tensors if tensor.startswith(f"{name}/"))
        options = _row(rows[name]) if name in rows else _head(spec, name)
        layers.append(Layer(name, kind, (before,), params, options))
    return tuple(layers)


def _row(row: Row) -> dict[str, Any]:
    options: dict[str, dict[str, Any]] = {
        "conv": {"pad": row.pads, "stride": row.stride, "dilate": (1, 1)},
        "pool": {"method": "max", "pool": row.kernel, "stride": row.stride, "pad": row.pads},
        "relu": {"leak": 0.0},
        "normalize": {"param": tuple(float(value) for value in row.lrn)},
    }
    return options[row.kind]


def _head(spec: NetVLADSpec, name: str) -> dict[str, Any]:
    """L2 across all D channels is MatConvNet's `normalize` with a window of 2D."""
    across = {"param": (2.0 * spec.feature_width, 1e-12, 1.0, 0.5)}
    options: dict[str, dict[str, Any]] = {
        "preL2": across,
        "vlad:intranorm": across,
        "WPCA": {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (1, 1)},
    }
    return options.get(name, {})
