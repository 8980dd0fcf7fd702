"""MatConvNet's SimpleNN: a chain of layers, each a struct or a class object.

Upgrades old layouts as `vl_simplenn_tidy` does on load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.checkpoint import Array, Layer
from converters.errors import LayerError
from converters.readers.finite import not_finite
from converters.readers.mat_value import MatObject, Struct, Value, describe, is_empty
from converters.readers.simplenn_options import options

__all__ = ["INPUT", "Chain", "floating", "parse"]

#: The name under which the first layer reads the net's input.
INPUT = "input"
_CLASSES = frozenset(
    {
        "layerVLAD",
        "layerVLADv2",
        "layerWholeL2Normalize",
        "layerTotalMaxPool",
        "layerTotalAvgPool",
    }
)
# Names that NetVLAD's addLayers.m and addPCA.m give, and the classes' own
# defaults. The two VLAD classes are told apart by the count of their weights.
_CLASS_BY_NAME = {
    "postL2": "layerWholeL2Normalize",
    "finalL2": "layerWholeL2Normalize",
    "wholeL2": "layerWholeL2Normalize",
    "max:core": "layerTotalMaxPool",
    "maxTotal": "layerTotalMaxPool",
    "avg:core": "layerTotalAvgPool",
    "avgTotal": "layerTotalAvgPool",
}
_VLAD_NAMES = frozenset({"vlad:core", "VLAD"})
_VLAD_BY_WEIGHTS = {2: "layerVLAD", 3: "layerVLADv2"}
_MEND = (
    "Mend these layers in MATLAB and save the net again; if the file may be damaged, "
    "fetch it again first."
)
_SYNONYMS = {"lrn": "normalize"}
# Axes of each weight. Batch norm's third is [mean, sigma] per channel.
_AXES: Mapping[str, tuple[int, ...]] = {
    "conv": (4, 1),
    "convt": (4, 1),
    "bnorm": (1, 1, 2),
    "layerVLAD": (4, 4),
    "layerVLADv2": (4, 1, 4),
}
_OPTIONAL_BIAS = frozenset({"conv", "convt"})


@dataclass(slots=True)
class Chain:
    """The layers in their order, their tensors by name, and what was upgraded."""

    layers: list[Layer] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def parse(path: Path, entries: Sequence[Value], decode: Callable[[MatObject], Struct]) -> Chain:
    """Read every entry of `net.layers`.

    `decode` turns a class object into its properties, or raises ValueError.
    Raises `LayerError` with every layer that cannot be carried.
    """
    chain = Chain()
    faults: dict[str, str] = {}
    nameless: list[str] = []
    seen: Counter[str] = Counter()
    for index, entry in enumerate(entries, start=1):
        name = f"layer{index}"
        try:
            struct, classname = _struct(entry, decode)
            given = struct.get("name")
            if isinstance(given, str) and given:
                name = given
            else:
                nameless.append(name)
            if name == INPUT:
                raise ValueError("is called as the net's own input is")
            seen[name] += 1
            _append(chain, name, classname, struct)
        except ValueError as error:
            faults[name] = str(error)
    faults |= {name: f"{n} layers are called so" for name, n in seen.items() if n > 1}
    if faults:
        raise LayerError(path, faults, advice=_MEND)
    if nameless:
        chain.notes.append(f"named by their place, for want of a name: {', '.join(nameless)}")
    return chain


def _struct(entry: Value, decode: Callable[[MatObject], Struct]) -> tuple[Struct, str]:
    """An entry's fields, and its class where it is (or was) an object."""
    if isinstance(entry, MatObject):
        if entry.classname not in _CLASSES:
            raise ValueError(
                f"an object of class {entry.classname}, which is unknown here; "
                f"known are {', '.join(sorted(_CLASSES))}"
            )
        try:
            return decode(entry), entry.classname
        except ValueError as error:
            raise ValueError(
                f"an object of class {entry.classname} that cannot be decoded: {error}; "
                "in MATLAB, turn it into a struct: net.layers{i} = struct(net.layers{i})"
            ) from error
    if not isinstance(entry, dict):
        raise ValueError(f"is {describe(entry)} where a struct belongs")
    return entry, ""


def _append(chain: Chain, name: str, classname: str, struct: Struct) -> None:
    kind = classname or struct.get("type")
    if not isinstance(kind, str) or not kind:
        raise ValueError("has no type")
    kind = _SYNONYMS.get(kind, kind)
    if kind.endswith("loss"):
        chain.notes.append(f"left out: {name}, a {kind}")
        return
    weights = _weights(chain, name, struct)
    if kind == "custom":
        kind = _custom(name, len(weights))
    tensors = {
        f"{name}/weights/{index}": tensor
        for index, tensor in enumerate(_tensors(kind, weights))
        if tensor is not None
    }
    previous = chain.layers[-1].name if chain.layers else INPUT
    chain.layers.append(Layer(name, kind, (previous,), tuple(tensors), options(kind, struct)))
    chain.tensors.update(tensors)


def _weights(chain: Chain, name: str, struct: Struct) -> list[Value]:
    weights = struct.get("weights")
    if is_empty(weights) and not is_empty(struct.get("filters")):
        chain.notes.append(f"upgraded: {name}, filters and biases are now weights")
        return [struct["filters"], struct.get("biases", [])]
    if weights is None or is_empty(weights):
        return []
    if not isinstance(weights, list):
        raise ValueError(f"weights is {describe(weights)} where a cell array belongs")
    return weights


def _custom(name: str, count: int) -> str:
    """The class of a layer that MATLAB turned from an object into a struct."""
    if name in _VLAD_NAMES:
        if count not in _VLAD_BY_WEIGHTS:
            raise ValueError(f"has {count} weights; layerVLAD has 2, layerVLADv2 has 3")
        return _VLAD_BY_WEIGHTS[count]
    if name not in _CLASS_BY_NAME:
        raise ValueError("a custom layer of unknown class: what it computes is not in the file")
    return _CLASS_BY_NAME[name]


def _tensors(kind: str, weights: Sequence[Value]) -> Iterator[Array | None]:
    axes = _AXES.get(kind, ())
    if axes and not len(axes) - (kind in _OPTIONAL_BIAS) <= len(weights) <= len(axes):
        hint = "; without moments it cannot be run on one image" if kind == "bnorm" else ""
        raise ValueError(f"has {len(weights)} weights where a {kind} has {len(axes)}{hint}")
    for index, value in enumerate(weights):
        try:
            optional = index == 1 and kind in _OPTIONAL_BIAS
            yield _tensor(value, axes[index] if axes else None, optional=optional)
        except ValueError as error:
            raise ValueError(f"weights/{index} {error}") from error


def _tensor(value: Value, axes: int | None, *, optional: bool) -> Array | None:
    if is_empty(value) and optional:
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        hint = "; gather it before saving" if "gpuArray" in describe(value) else ""
        raise ValueError(f"is {describe(value)} where numbers belong{hint}")
    if axes and is_empty(value):
        raise ValueError("is empty")
    tensor = _shaped(floating(value), axes)
    if wrong := not_finite(tensor):
        raise ValueError(f"({'×'.join(map(str, tensor.shape))}): {wrong}")
    return tensor


def _shaped(tensor: Array, axes: int | None) -> Array:
    """Give back the trailing axes of size 1 that MATLAB drops; flatten a vector."""
    if axes == 1:
        if tensor.size != max(tensor.shape):
            raise ValueError(f"has shape {tensor.shape} where a vector belongs")
        return tensor.reshape(-1)
    if axes is not None and tensor.ndim > axes:
        raise ValueError(f"has shape {tensor.shape} where {axes} axes belong")
    dropped = (1,) * ((axes or 0) - tensor.ndim)
    return tensor.reshape(tensor.shape + dropped, order="F")


def floating(tensor: Array) -> Array:
    """MATLAB stores a float array of whole numbers as integers: make it float again."""
    if tensor.dtype.kind == "f":
        return tensor
    return tensor.astype(np.float32 if tensor.dtype.itemsize <= 2 else np.float64)
