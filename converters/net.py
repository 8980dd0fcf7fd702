"""Which net a MatConvNet checkpoint is: `net_from`, and its weights by canonical name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from converters import layermap
from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import ConversionError, LayerError
from converters.layermap import Rule
from converters.maps.matconvnet import KINDS
from converters.plugins import Plugin
from netvlad_keras.net import NetLayer, NetSpec, Weight

__all__ = ["CARRIED", "net_from", "net_weights"]

#: Kinds that hold no weights, or may hold none.
_WEIGHTLESS = (
    *(
        "pool",
        "relu",
        "sigmoid",
        "softmax",
        "dropout",
        "normalize",
        "lrn",
        "spnorm",
        "normoffset",
        "noffset",
    ),
    *("concat", "sum", "product", "Axpy", "crop", "flatten", "bilinearsampler", "affinegrid"),
    *("layerWholeL2Normalize", "layerTotalMaxPool", "layerTotalAvgPool"),
)
#: Every kind that becomes a Keras layer.
CARRIED = (*KINDS, *_WEIGHTLESS)


def net_from(
    checkpoint: Checkpoint, plugins: Sequence[Plugin] = (), *, preprocess: bool = False
) -> NetSpec:
    """The `NetSpec` of a checkpoint: all layers, the inputs and outputs by the source's names.

    With `preprocess` the net subtracts its own averageImage. Raises `LayerError` with every
    layer that cannot be carried, and why.
    """
    layers = [_with_inputs(layer, plugins) for layer in checkpoint.layers]
    _refuse(checkpoint, layers, plugins)
    owners: dict[str, str] = {}
    rows = tuple(_row(layer, checkpoint, owners) for layer in layers)
    inputs = tuple(_inputs(checkpoint, layers, plugins))
    try:
        outputs = _outputs(layers, checkpoint.outputs)
        spec = NetSpec(inputs, rows, outputs, checkpoint.origin.session)
        return replace(spec, mean=_mean(checkpoint, inputs)) if preprocess else spec
    except ValueError as error:
        raise ConversionError(f"{checkpoint.origin.path}: {error}") from error


def net_weights(checkpoint: Checkpoint, spec: NetSpec) -> dict[str, Array]:
    """A checkpoint's tensors under the canonical names of `net_from`'s spec.

    A tensor that several layers share stands once, under the first that reads
    it. Raises `MappingError` with every tensor that does not fit.
    """
    owned: set[str] = set()
    rules: list[Rule] = []
    for layer in checkpoint.layers:
        mine = [rule for rule in _rules(layer) if rule.source not in owned]
        owned |= {rule.source for rule in mine}
        rules += mine
    if spec.mean is not None:
        part = (0, 0) if np.ndim(spec.mean) == 1 else None
        rules.append(Rule(MEAN, f"{spec.inputs[0][0]}/mean", part=part))
    unused = {MEAN} if spec.mean is None else set()
    return layermap.apply(rules, checkpoint.tensors, spec.weight_shapes, ignore=unused)


def _rules(layer: Layer) -> Sequence[Rule]:
    return layermap.expand({layer.name: KINDS.get(layer.kind, _own(layer))},
                           [(layer.name, layer.kind, layer.params)])  # fmt: skip


def _own(layer: Layer) -> tuple[Rule, ...]:
    """A custom kind's tensors go by their number."""
    return tuple(Rule(f"{{{n}}}", f"{{name}}/weight_{n}") for n in range(len(layer.params)))


def _row(layer: Layer, checkpoint: Checkpoint, owners: dict[str, str]) -> NetLayer:
    weights = []
    for rule in _rules(layer):
        role = rule.target.rsplit("/", 1)[1]
        key = f"{rule.source} {rule.part}"
        name = owners.setdefault(key, rule.target)
        shape = layermap.carried(rule, checkpoint.tensors[rule.source]).shape
        weights.append(Weight(role, name, tuple(int(size) for size in shape)))
    return NetLayer(layer.name, layer.kind, layer.inputs, tuple(weights), dict(layer.options))


def _with_inputs(layer: Layer, plugins: Sequence[Plugin]) -> Layer:
    """A plugin's kind may read inputs of the net that the file does not speak of."""
    more = [name for p in plugins for name, _ in p.inputs.get(layer.kind, ())]
    more = [name for name in more if name not in layer.inputs]
    return replace(layer, inputs=(*layer.inputs, *more)) if more else layer


def _refuse(checkpoint: Checkpoint, layers: Sequence[Layer], plugins: Sequence[Plugin]) -> None:
    known = {*CARRIED, *(kind for plugin in plugins for kind in plugin.keras)}
    faults = {
        layer.name: f"type {layer.kind}: what it computes is not known here"
        for layer in layers
        if layer.kind not in known
    }
    for layer in layers:
        if layer.name in faults:
            continue
        try:
            for rule in _rules(layer):
                layermap.carried(rule, checkpoint.tensors[rule.source])
        except ValueError as error:
            faults[layer.name] = str(error)
        except KeyError as error:
            faults[layer.name] = f"its tensor {error} is not there"
    if faults:
        raise LayerError(
            checkpoint.origin.path,
            faults,
            advice="A custom layer of your own joins by --plugin FILE (docs/plugins.md); "
            "--until LAYER cuts the net before one that is not needed.",
        )


def _outputs(layers: Sequence[Layer], wanted: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The layers `wanted`, or those that nothing reads, under the names of what they make.

    A name that another layer has is not taken: the layer's own stands there.
    """
    names = {layer.name for layer in layers}
    read = {name for layer in layers for name in layer.inputs}
    ends = {x.name: x.output for x in layers if x.name in (wanted or names - read)}
    ends = {name: ends[name] for name in wanted or ends}
    return tuple(
        (name, output if output and (output == name or output not in names) else name)
        for name, output in ends.items()
    )


def _inputs(
    checkpoint: Checkpoint, layers: Sequence[Layer], plugins: Sequence[Plugin]
) -> Iterator[tuple[str, int]]:
    made = {layer.name for layer in layers}
    read = dict.fromkeys(name for layer in layers for name in layer.inputs)
    stated = {name: count for p in plugins for pair in p.inputs.values() for name, count in pair}
    stated |= {name: count for p in plugins for name, count in p.channels.items()}
    for name in (name for name in read if name not in made):
        yield name, stated.get(name) or _channels(checkpoint, layers, name)


def _channels(checkpoint: Checkpoint, layers: Sequence[Layer], name: str) -> int:
    """How many channels an input has: what its first convolution reads, or the file says."""
    said = _said(checkpoint)
    waiting, seen = [name], {name}
    while waiting:
        value = waiting.pop(0)
        for layer in layers:
            if value not in layer.inputs or layer.name in seen:
                continue
            found = _reads(layer, checkpoint.tensors)
            if found and layer.kind != "conv":
                return found
            if found:  # filters in groups read a multiple of their depth
                return said if said and said % found == 0 else found
            if layer.kind in _KEEPING:
                seen.add(layer.name)
                waiting.append(layer.name)
    if said:
        return said
    raise ConversionError(
        f"{checkpoint.origin.path}: nothing tells how many channels the input {name} has",
        advice="A plugin file may say so: CHANNELS = {'" + name + "': 1}.",
    )


#: Kinds whose output has the channels of their input.
_KEEPING = frozenset(
    {"pool", "relu", "sigmoid", "softmax", "dropout", "normalize", "spnorm", "sum", "crop"}
)


def _reads(layer: Layer, tensors: Mapping[str, Array]) -> int:
    """The channels that a layer's tensors stand for; 0 where they do not tell."""
    if not layer.params:
        return 0
    tensor = tensors[layer.params[0]]
    axis = {"conv": 2, "convt": 3, "layerVLAD": 2, "layerVLADv2": 2}.get(layer.kind)
    if axis is not None:
        return int(tensor.shape[axis])
    return int(tensor.shape[0]) if layer.kind == "bnorm" else 0


def _said(checkpoint: Checkpoint) -> int:
    """The channels of averageImage or of meta.normalization.imageSize; 0 if neither is there."""
    if MEAN in checkpoint.tensors:
        return int(checkpoint.tensors[MEAN].shape[2])
    size: Any = checkpoint.preprocessing.get("imageSize", ())
    return int(size[2]) if isinstance(size, tuple) and len(size) > 2 else 0


def _mean(checkpoint: Checkpoint, inputs: Sequence[tuple[str, int]]) -> Any:
    if MEAN not in checkpoint.tensors or len(inputs) != 1:
        reason = "no averageImage" if len(inputs) == 1 else f"{len(inputs)} inputs"
        raise ConversionError(
            f"{checkpoint.origin.path}: has {reason}, so there is no mean to put into the net",
            advice="Convert it without --with-preprocessing.",
        )
    mean = checkpoint.tensors[MEAN]
    flat = mean.shape[:2] == (1, 1) or bool((mean == mean[:1, :1]).all())
    return mean[0, 0].tolist() if flat else mean.tolist()
