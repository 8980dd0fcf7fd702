"""The oracle: what a MatConvNet net computes, layer by layer, in float64 (or float32).

`execute` runs a whole net and hands out one layer after the other, `replay` runs one layer alone.
Every layer's function stands in `verify.operators`. Arrays are N×H×W×C; what is one vector per
image is N×D: `layerWholeL2Normalize`, total pooling, and every layer that makes a vector of
vectors (whitening). VLAD's core and its normalization within clusters are N×1×K×D.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import ConversionError, LayerError
from verify.operators import NETVLAD, OPERATORS, VECTORS, Operator

__all__ = ["Precision", "execute", "published_mean", "replay", "run"]

Precision = type[np.float32] | type[np.float64]


def run(
    checkpoint: Checkpoint,
    image: Array | Mapping[str, Array],
    dtype: Precision = np.float64,
    *,
    mean: ArrayLike | None = None,
    operators: Mapping[str, Operator] = OPERATORS,
) -> dict[str, Array]:
    """All that `execute` hands out, at once: layer -> output. Memory grows with the depth."""
    return dict(execute(checkpoint, image, dtype, mean=mean, operators=operators))


def execute(
    checkpoint: Checkpoint,
    image: Array | Mapping[str, Array],
    dtype: Precision = np.float64,
    *,
    mean: ArrayLike | None = None,
    operators: Mapping[str, Operator] = OPERATORS,
) -> Iterator[tuple[str, Array]]:
    """Yield (`input`, image minus mean), then (layer, output) in the order of execution.

    image      N×H×W×C or H×W×C, of any real type. A net that reads several inputs takes a mapping
               by their names, which is fed as it is.
    dtype      the precision of all arithmetic.
    mean       what to subtract, one number per channel or a whole image; `None`: as
               `published_mean` says, so a net's own averageImage or a 0 is given here if wanted.
    operators  kind of layer -> function; a custom kind joins as `{**OPERATORS, "MyKind": f}`.

    An output is dropped as soon as no later layer reads it. Raises, before anything runs,
    `ConversionError` for a source without layers or an image that does not fit, `LayerError` with
    every layer that cannot be executed; and `LayerError` from the layer whose input does not fit.
    """
    _check(checkpoint, operators)
    feeds = _feeds(checkpoint, image, dtype, mean)
    return _walk(checkpoint, feeds, operators)


def replay(
    checkpoint: Checkpoint,
    layer_name: str,
    inputs: Sequence[Array],
    dtype: Precision = np.float64,
    *,
    operators: Mapping[str, Operator] = OPERATORS,
) -> Array:
    """Run one layer alone on `inputs`, one array for each of the layer's `inputs`.

    Shapes in and out are those of `execute`. Raises `LayerError` if the layer cannot be executed
    or does not fit, `ConversionError` if there is none of that name.
    """
    for layer in checkpoint.layers:
        if layer.name == layer_name:
            break
    else:
        raise ConversionError(f"{checkpoint.origin.path}: there is no layer {layer_name!r}")
    fault = _fault(layer, checkpoint, operators)
    if not fault and len(inputs) != len(layer.inputs):
        fault = f"reads {len(layer.inputs)} inputs, {len(inputs)} were given"
    if fault:
        raise LayerError(checkpoint.origin.path, {layer_name: fault})
    return _apply(layer, [np.asarray(x, dtype) for x in inputs], checkpoint, operators)


def published_mean(checkpoint: Checkpoint) -> Array | None:
    """What a net's own code subtracts: for NetVLAD pixel (1,1) of averageImage, C numbers.

    `None` for a net without one, and for any other net: MatConvNet leaves the preparation of its
    images to the caller (`vl_simplenn.m`).
    """
    if MEAN in checkpoint.tensors and any(layer.kind in NETVLAD for layer in checkpoint.layers):
        pixel: Array = checkpoint.tensors[MEAN][0, 0]
        return pixel
    return None


def _check(checkpoint: Checkpoint, operators: Mapping[str, Operator]) -> None:
    if not checkpoint.layers:
        raise ConversionError(
            f"{checkpoint.origin.path}: holds weights but no layers to execute",
            advice="The reference is the MatConvNet file (.mat) that the weights come from.",
        )
    faults: dict[str, str] = {}
    names = {layer.name for layer in checkpoint.layers}
    seen: set[str] = set()
    for layer in checkpoint.layers:
        early = [name for name in layer.inputs if name in names and name not in seen]
        if layer.name in seen:
            faults[layer.name] = "there are two layers of this name"
        elif early:
            faults[layer.name] = f"reads {', '.join(early)} before it is computed"
        elif fault := _fault(layer, checkpoint, operators):
            faults[layer.name] = fault
        seen.add(layer.name)
    if faults:
        raise LayerError(
            checkpoint.origin.path,
            faults,
            advice="A custom kind needs an oracle function: --plugin FILE, in Python operators=.",
        )


def _fault(layer: Layer, checkpoint: Checkpoint, operators: Mapping[str, Operator]) -> str:
    """Why a layer cannot be executed, or nothing."""
    if layer.kind not in operators:
        return f"the oracle does not know its type {layer.kind!r}"
    if not layer.inputs:
        return "reads nothing"
    missing = [name for name in layer.params if name not in checkpoint.tensors]
    if missing:
        return f"its weights {', '.join(missing)} are not there"
    function = operators[layer.kind]
    try:
        inspect.signature(function).bind(*layer.inputs, *layer.params, **_options(layer, function))
    except TypeError as error:
        counts = f"{len(layer.inputs)} inputs and {len(layer.params)} weights"
        return f"{layer.kind} with {counts}: {error}"
    return ""


def _options(layer: Layer, function: Operator) -> dict[str, Any]:
    """Those of the layer's settings that the function takes: by name, or all with `**`."""
    taken = list(inspect.signature(function).parameters.values())
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken):
        return dict(layer.options)
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    arrays = sum(each.kind in by_position for each in taken[: len(layer.inputs + layer.params)])
    return {
        each.name: layer.options[each.name] for each in taken[arrays:] if each.name in layer.options
    }


def _feeds(
    checkpoint: Checkpoint,
    image: Array | Mapping[str, Array],
    dtype: Precision,
    mean: ArrayLike | None,
) -> dict[str, Array]:
    """The net's inputs (what is read and no layer makes) -> N×H×W×C."""
    made = {layer.name for layer in checkpoint.layers}
    read = dict.fromkeys(name for layer in checkpoint.layers for name in layer.inputs)
    names = [name for name in read if name not in made]
    if isinstance(image, Mapping):
        if set(image) != set(names):
            raise ConversionError(
                f"{checkpoint.origin.path}: reads {', '.join(names)}, given: {', '.join(image)}"
            )
        return {name: _batch(name, image[name], dtype) for name in names}
    if len(names) != 1:
        raise ConversionError(
            f"{checkpoint.origin.path}: reads {len(names)} inputs: {', '.join(names)}",
            advice="Give a mapping from each input's name to its array.",
        )
    x = _batch(names[0], image, dtype)
    shift = published_mean(checkpoint) if mean is None else np.asarray(mean)
    if shift is None:
        return {names[0]: x}
    if shift.shape not in ((), x.shape[3:], (1, 1, *x.shape[3:]), x.shape[1:]):
        raise ConversionError(
            f"{checkpoint.origin.path}: a mean of shape {shift.shape} does not fit "
            f"{names[0]} of shape {x.shape[1:]}",
            advice="Give the channels that the net was made for, or a mean that fits.",
        )
    return {names[0]: x - shift.astype(dtype)}


def _batch(name: str, image: Array, dtype: Precision) -> Array:
    image = np.asarray(image)
    if image.ndim not in (3, 4) or image.size == 0 or image.dtype.kind not in "biuf":
        raise ConversionError(
            f"{name} is {image.dtype} of shape {image.shape}",
            advice="An image is H×W×C or N×H×W×C, of real numbers.",
        )
    return (image if image.ndim == 4 else image[None]).astype(dtype)


def _walk(
    checkpoint: Checkpoint, values: dict[str, Array], operators: Mapping[str, Operator]
) -> Iterator[tuple[str, Array]]:
    yield from list(values.items())
    last = {name: layer.name for layer in checkpoint.layers for name in layer.inputs}
    for layer in checkpoint.layers:
        y = _apply(layer, [values[name] for name in layer.inputs], checkpoint, operators)
        for name in set(layer.inputs):
            if last[name] == layer.name:
                del values[name]
        if layer.name in last:
            values[layer.name] = y
        yield layer.name, y


def _apply(
    layer: Layer,
    inputs: Sequence[Array],
    checkpoint: Checkpoint,
    operators: Mapping[str, Operator],
) -> Array:
    function = operators[layer.kind]
    maps = [x[:, None, None] if x.ndim == 2 else x for x in inputs]
    weights = [checkpoint.tensors[name] for name in layer.params]
    try:
        y = function(*maps, *weights, **_options(layer, function))
    except ValueError as error:
        raise LayerError(checkpoint.origin.path, {layer.name: str(error)}) from error
    vectors = layer.kind in VECTORS or all(x.ndim == 2 for x in inputs)
    return y.reshape(len(y), -1) if vectors and y.shape[1:3] == (1, 1) else y
