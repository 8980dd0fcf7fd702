"""What a manifest declares of a conversion, done to the source: cut, merged, cropped, the mean.

So that each layer of the artifacts has one that it can be compared with. Nothing here is the
converters' code.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from converters.checkpoint import MEAN, Checkpoint, Layer
from converters.errors import ConversionError
from verify.names.matconvnet import MERGED, SUBTRACTED

__all__ = ["as_declared", "changes", "quantised", "rounded", "without_dropout"]


def as_declared(checkpoint: Checkpoint, manifest: Mapping[str, Any]) -> Checkpoint:
    """The net that the artifacts of this manifest (`{}`: none) have to be."""
    lines = [str(line) for line in manifest.get("transformations", ())]
    for line in lines:
        for pattern, change in _CHANGES.items():
            if match := re.fullmatch(pattern, line):
                checkpoint = change(checkpoint, match)
    return without_dropout(checkpoint)


def changes(manifest: Mapping[str, Any]) -> bool:
    """Whether the artifacts are another net than their source, cropped ones too."""
    lines = [str(line) for line in manifest.get("transformations", ())]
    patterns = (*_CHANGES, r"WPCA cropped .*")
    return any(re.fullmatch(pattern, line) for line in lines for pattern in patterns)


def rounded(manifest: Mapping[str, Any]) -> frozenset[str]:
    """The files that are declared to hold float16."""
    return _files("rounded to float16", manifest)


def quantised(manifest: Mapping[str, Any]) -> frozenset[str]:
    """The files that are declared to hold int8."""
    return _files("quantised to int8", manifest)


def _files(words: str, manifest: Mapping[str, Any]) -> frozenset[str]:
    lines = [str(line) for line in manifest.get("transformations", ())]
    found = [line.removeprefix(f"{words}: ") for line in lines if line.startswith(f"{words}: ")]
    return frozenset(name for line in found for name in line.split(", "))


def without_dropout(checkpoint: Checkpoint) -> Checkpoint:
    """Dropout does nothing outside of training: who reads it, reads what it reads."""
    passed = {x.name: x.inputs[0] for x in checkpoint.layers if x.kind == "dropout"}
    return _rewired(checkpoint, passed) if passed else checkpoint


def _rewired(checkpoint: Checkpoint, passed: Mapping[str, str]) -> Checkpoint:
    """Without the layers `passed`, each of which hands on the value named there."""

    def behind(name: str) -> str:
        while name in passed:
            name = passed[name]
        return name

    layers = tuple(
        replace(layer, inputs=tuple(map(behind, layer.inputs)))
        for layer in checkpoint.layers
        if layer.name not in passed
    )
    outputs = tuple(map(behind, checkpoint.outputs))
    return replace(checkpoint, layers=layers, outputs=outputs)


def _cut(checkpoint: Checkpoint, match: re.Match[str]) -> Checkpoint:
    layers = {layer.name: layer for layer in checkpoint.layers}
    made = {layer.output: layer.name for layer in checkpoint.layers if layer.output}
    wanted = [name if name in layers else made.get(name, name) for name in match[1].split(", ")]
    if strange := [name for name in wanted if name not in layers]:
        raise ConversionError(f"{checkpoint.origin.path}: there is no layer {', '.join(strange)}")
    needed: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in layers and name not in needed:
            needed.add(name)
            waiting += layers[name].inputs
    kept = tuple(layer for layer in checkpoint.layers if layer.name in needed)
    read = {MEAN, *(name for layer in kept for name in layer.params)}
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name in read}
    return replace(checkpoint, layers=kept, tensors=tensors, outputs=tuple(wanted))


def _merged(checkpoint: Checkpoint, match: re.Match[str]) -> Checkpoint:
    """A convolution and the batch norm behind it as one layer, which the oracle runs unmerged."""
    layers = {layer.name: layer for layer in checkpoint.layers}
    readers = Counter(name for layer in checkpoint.layers for name in layer.inputs)
    pairs = {
        layer.name: layer.inputs[0]
        for layer in checkpoint.layers
        if layer.kind == "bnorm"
        and layers[layer.inputs[0]].kind in MERGED
        and readers[layer.inputs[0]] == 1
    }
    joined = {before: _joined(layers[before], layers[norm]) for norm, before in pairs.items()}
    own = tuple(joined.get(layer.name, layer) for layer in checkpoint.layers)
    return _rewired(replace(checkpoint, layers=own), pairs)


def _joined(conv: Layer, norm: Layer) -> Layer:
    params = (*conv.params, *norm.params)
    return replace(conv, kind=MERGED[conv.kind], params=params, output=norm.output)


def _subtracting(checkpoint: Checkpoint, match: re.Match[str]) -> Checkpoint:
    """The mean as a layer before all others."""
    made = {layer.name for layer in checkpoint.layers}
    entry = next(n for layer in checkpoint.layers for n in layer.inputs if n not in made)
    first = Layer(f"{entry}.mean", SUBTRACTED, (entry,), (MEAN,))

    def read(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(first.name if name == entry else name for name in names)

    behind = (replace(layer, inputs=read(layer.inputs)) for layer in checkpoint.layers)
    return replace(checkpoint, layers=(first, *behind))


#: What the manifest says -> what it means for the source.
_CHANGES: Mapping[str, Callable[[Checkpoint, re.Match[str]], Checkpoint]] = {
    r"cut behind (.+)": _cut,
    r"outputs: (.+)": _cut,
    r"batch norms merged into the convolutions before them": _merged,
    r"averageImage is subtracted inside": _subtracting,
}
