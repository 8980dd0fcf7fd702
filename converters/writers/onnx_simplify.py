"""Folds in `model.onnx` what can be computed beforehand, by onnxslim, and holds it to the names.

Layers, weights, inputs, outputs and metadata must be there afterwards, or the file is left as it
was: a graph whose layers cannot be found cannot be compared with its source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnxslim

from converters.errors import ConversionError

__all__ = ["write"]


def write(source: Path, path: Path) -> None:
    """Simplify `source` into `path`, which may be the same file.

    Raises `ConversionError`, and writes nothing, where onnxslim loses a layer or a weight.
    """
    before = onnx.load(source)
    after = onnxslim.slim(onnx.load(source))
    del after.metadata_props[:]
    after.metadata_props.extend(before.metadata_props)
    del after.graph.value_info[:]
    wanted, found = _names(before), _names(after)
    if lost := sorted(wanted - found):
        raise ConversionError(
            f"--simplify: onnxslim {onnxslim.__version__} loses {', '.join(lost)}",
            advice="Without --simplify, or of a net with batch norms after --merge-batchnorm.",
        )
    for name in ("input", "output"):
        values = getattr(after.graph, name)
        del values[:]
        values.extend(getattr(before.graph, name))
    onnx.save(after, path)


def _names(model: Any) -> set[str]:
    """What has to stay: the layers' values, the weights, inputs and outputs."""
    stated = {entry.key: entry.value for entry in model.metadata_props}
    values = json.loads(stated.get("values", "{}"))
    layers = {values.get(name, name) for name in json.loads(stated.get("layouts", "{}"))}
    made = {value for node in model.graph.node for value in node.output}
    weights = {tensor.name for tensor in model.graph.initializer if "/" in tensor.name}
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    return layers & made | weights | ends
