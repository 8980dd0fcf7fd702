"""Which NetVLAD a checkpoint is: `spec_from`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from converters import recognise_weights
from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import LayerError
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import Row, Trunk

__all__ = ["NETVLAD_KINDS", "spec_from"]

_POOLINGS = {
    "layerVLAD": "vlad",
    "layerVLADv2": "vladv2",
    "layerTotalMaxPool": "max",
    "layerTotalAvgPool": "avg",
}
#: Layers that only a NetVLAD has.
NETVLAD_KINDS = frozenset((*_POOLINGS, "layerWholeL2Normalize"))


def spec_from(checkpoint: Checkpoint) -> NetVLADSpec:
    """The `NetVLADSpec` of a checkpoint, trunk, head, sizes and mean.

    Raises `LayerError` naming the first layer that no NetVLAD has, and
    `ConversionError` where variables alone do not make one.
    """
    spec = _RECOGNISERS[checkpoint.origin.format](checkpoint)
    return replace(spec, name=checkpoint.origin.session)


def _from_layers(checkpoint: Checkpoint) -> NetVLADSpec:
    layers = {layer.name: layer for layer in checkpoint.layers}
    cores = [layer for layer in checkpoint.layers if layer.kind in _POOLINGS]
    if len(cores) != 1:
        raise _refused(checkpoint, {"(net)": "a NetVLAD has one vlad, max or avg core layer"})
    core = cores[0]
    names = list(layers)
    start = names.index("preL2") if "preL2" in layers else names.index(core.name)
    trunk = _trunk(checkpoint, checkpoint.layers[:start])
    assignment = checkpoint.tensors[core.params[0]] if core.params else np.empty((0,))
    whitening = (
        checkpoint.tensors["WPCA/weights/0"].shape[-1]
        if "WPCA/weights/0" in (checkpoint.tensors)
        else 0
    )
    try:
        spec = NetVLADSpec(
            trunk=trunk,
            pooling=_POOLINGS[core.kind],
            prel2="preL2" in layers,
            intranorm="vlad:intranorm" in layers,
            clusters=assignment.shape[-1] if core.params else 0,
            whitening=whitening,
            mean=recognise_weights.mean_of(checkpoint.tensors.get(MEAN)),
        )
    except ValueError as error:
        raise _refused(checkpoint, {core.name: str(error)}) from error
    _compare(checkpoint, spec)
    return spec


def _trunk(checkpoint: Checkpoint, layers: tuple[Layer, ...]) -> Trunk:
    rows: list[Row] = []
    channels = 3
    for layer in layers:
        if layer.kind not in _ROWS:
            kinds = ", ".join(_ROWS)
            raise _refused(checkpoint, {layer.name: f"{layer.kind} in a NetVLAD trunk ({kinds})"})
        try:
            row = _ROWS[layer.kind](layer, checkpoint.tensors, channels)
        except ValueError as error:
            raise _refused(checkpoint, {layer.name: str(error)}) from error
        rows.append(row)
        channels = row.width or channels
    return tuple(rows)


def _conv(layer: Layer, tensors: Mapping[str, Array], channels: int) -> Row:
    height, width, depth, filters = tensors[layer.params[0]].shape
    if tuple(layer.options["dilate"]) != (1, 1):
        raise ValueError("a dilated convolution")
    if channels % depth:
        raise ValueError(f"filters of depth {depth} on {channels} channels")
    stride, pads = layer.options["stride"], layer.options["pad"]
    return Row("conv", layer.name, (height, width), stride, pads, channels // depth, filters)


def _pool(layer: Layer, tensors: Mapping[str, Array], channels: int) -> Row:
    if layer.options["method"] != "max":
        raise ValueError(f"{layer.options['method']} pooling in the trunk, only max is known")
    options = layer.options
    return Row("pool", layer.name, options["pool"], options["stride"], options["pad"])


def _relu(layer: Layer, tensors: Mapping[str, Array], channels: int) -> Row:
    if layer.options["leak"]:
        raise ValueError("a leaky relu")
    return Row("relu", layer.name)


def _normalize(layer: Layer, tensors: Mapping[str, Array], channels: int) -> Row:
    return Row("normalize", layer.name, lrn=tuple(layer.options["param"]))


_ROWS: dict[str, Callable[[Layer, Mapping[str, Array], int], Row]] = {
    "conv": _conv,
    "pool": _pool,
    "relu": _relu,
    "normalize": _normalize,
}


def _compare(checkpoint: Checkpoint, spec: NetVLADSpec) -> None:
    """Names, kinds, order and constants of all layers must be the spec's."""
    found = [(layer.name, layer.kind) for layer in checkpoint.layers]
    for (name, kind), expected in zip(found, spec.layers, strict=False):
        if (name, kind) != expected:
            reason = f"{name} ({kind}) stands where a NetVLAD has {' ('.join(expected)})"
            raise _refused(checkpoint, {name: reason})
    if len(found) != len(spec.layers):
        raise _refused(
            checkpoint, {found[-1][0]: f"{len(found)} layers, the net has {len(spec.layers)}"}
        )
    for layer in checkpoint.layers:
        if layer.name in ("preL2", "vlad:intranorm"):
            window, kappa, alpha, beta = layer.options["param"]
            if window < 2 * spec.feature_width or (kappa, alpha, beta) != (1e-12, 1.0, 0.5):
                raise _refused(
                    checkpoint, {layer.name: f"not an L2 norm with 1e-12: {layer.options['param']}"}
                )


_RECOGNISERS: dict[str, Callable[[Checkpoint], NetVLADSpec]] = {
    "matconvnet": _from_layers,
    "tf_checkpoint": recognise_weights.from_variables,
    "keras_h5": recognise_weights.from_record,
    "hloc": recognise_weights.from_modules,
    "pytorch_netvlad": recognise_weights.from_modules,
}


def _refused(checkpoint: Checkpoint, faults: dict[str, str]) -> LayerError:
    return LayerError(
        checkpoint.origin.path,
        faults,
        advice="this is not a NetVLAD that netvlad_keras knows",
    )
