"""Whatever was read as a checkpoint in MatConvNet's vocabulary, which every writer back takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters import compose, layermap
from converters.checkpoint import MEAN, Array, Checkpoint, Layer, Origin
from converters.convert import weights_of
from converters.errors import MappingError
from converters.layermap import Rule
from converters.maps.matconvnet import KINDS, TABLE
from converters.recognise import spec_from
from netvlad_keras.net import NetLayer, NetSpec

__all__ = ["original"]


def original(checkpoint: Checkpoint) -> Checkpoint:
    """The same net with layers and their tensors as a reader of `.mat` files gives them.

    A file of variables alone must be a NetVLAD, or a Keras file of this
    project. Raises `ConversionError` and `MappingError` as reading does.
    """
    if checkpoint.layers:
        return checkpoint
    recorded = checkpoint.preprocessing.get("spec", {})
    if "rows" in recorded:
        found = _net(NetSpec.from_dict(recorded), checkpoint.tensors)
    else:
        spec = spec_from(checkpoint)
        weights, shapes = weights_of(checkpoint, spec), compose.shapes(spec)
        rules = [_turned(rule) for rule in _rules(shapes, spec.layers)]
        tensors = layermap.apply(rules, weights, shapes, ignore={"input/mean"})
        found = compose.compose(spec, tensors)
    return replace(found, origin=checkpoint.origin)


def _rules(tensors: Mapping[str, Any], layers: tuple[tuple[str, str], ...]) -> tuple[Rule, ...]:
    """MatConvNet's map, written out for these layers."""
    own = {name: [t for t in tensors if t.startswith(f"{name}/")] for name, _ in layers}
    return layermap.expand(TABLE, [(name, kind, own[name]) for name, kind in layers])


def _turned(rule: Rule) -> Rule:
    """The way back of a rule that only moves axes and changes the sign."""
    here, _, there = rule.axes.partition(" -> ")
    return Rule(rule.target, rule.source, f"{there} -> {here}" if there else "", sign=rule.sign)


def _net(spec: NetSpec, weights: Mapping[str, Array]) -> Checkpoint:
    """Any net of MatConvNet's, from the spec that its Keras file records."""
    expected = spec.weight_shapes
    if missing := [name for name in expected if name not in weights]:
        raise MappingError(missing)
    chain = spec.inputs[0][0] == "input" and all(
        row.inputs == (before,)
        for before, row in zip(("input", *(row.name for row in spec.rows)), spec.rows, strict=False)
    )
    outputs = {} if chain else dict(spec.outputs)
    tensors: dict[str, Array] = {}
    if spec.mean is not None:
        mean = weights[f"{spec.inputs[0][0]}/mean"]
        tensors[MEAN] = mean.reshape((1, 1, -1) if mean.ndim == 1 else mean.shape)
    layers = []
    for row in spec.rows:
        own = dict(_tensors(row, weights))
        tensors |= own
        output = "" if chain else outputs.get(row.name, row.name)
        layers.append(Layer(row.name, row.kind, row.inputs, tuple(own), row.options, output))
    origin = Origin(Path(spec.name), "matconvnet", session=spec.name)
    return Checkpoint(tensors, tuple(layers), {}, origin)


def _tensors(row: NetLayer, weights: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """A layer's tensors in MatConvNet's order; a shared one has its first reader's name."""
    found = [(weight.role, weight.name, weights[weight.name]) for weight in row.weights]
    if row.kind == "bnorm":
        moments = np.stack([array for _, _, array in found[2:]], axis=1)
        found = [*found[:2], ("moments", found[2][1], moments)]
    rules = {rule.target.rpartition("/")[2]: rule for rule in KINDS.get(row.kind, ())}
    for number, (role, name, array) in enumerate(found):
        rule = rules.get(role)
        turned = array if rule is None else layermap.carried(_turned(rule), array)
        yield f"{name.rpartition('/')[0]}/weights/{number}", turned
