"""MatConvNet's SimpleNN: a chain of layers, each a struct or a class object.

Upgrades old layouts as `vl_simplenn_tidy` does on load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from converters.checkpoint import Array, Layer
from converters.errors import LayerError
from converters.readers.mat_value import MatObject, Struct, Value, describe, is_empty
from converters.readers.net import MEND, Net, is_loss
from converters.readers.simplenn_options import options, unsaid
from converters.readers.weights import axes_of, tensor

__all__ = ["INPUT", "parse"]

#: The name under which the first layer reads the net's input.
INPUT = "input"
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
_SYNONYMS = {"lrn": "normalize", "noffset": "normoffset"}
_OPTIONAL_BIAS = frozenset({"conv", "convt"})


def parse(path: Path, entries: Sequence[Value], decode: Callable[[MatObject], Struct]) -> Net:
    """Read every entry of `net.layers`.

    `decode` turns a class object into its properties, or raises ValueError.
    Raises `LayerError` with every layer that cannot be carried.
    """
    net = Net()
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
            _append(net, name, classname, struct)
        except ValueError as error:
            faults[name] = str(error)
    faults |= {name: f"{n} layers are called so" for name, n in seen.items() if n > 1}
    if faults:
        raise LayerError(path, faults, advice=MEND)
    carried = {layer.name for layer in net.layers}
    if nameless := [name for name in nameless if name in carried]:
        net.notes.append(f"named by their place, for want of a name: {', '.join(nameless)}")
    return net


def _struct(entry: Value, decode: Callable[[MatObject], Struct]) -> tuple[Struct, str]:
    """An entry's fields, and its class where it is (or was) an object."""
    if isinstance(entry, MatObject):
        classname = entry.classname.removeprefix("dagnn.")
        if is_loss(classname):
            return {}, classname
        try:
            return decode(entry), classname
        except ValueError as error:
            raise ValueError(
                f"an object of class {entry.classname} that cannot be decoded: {error}; "
                "in MATLAB, turn it into a struct: net.layers{i} = struct(net.layers{i})"
            ) from error
    if not isinstance(entry, dict):
        raise ValueError(f"is {describe(entry)} where a struct belongs")
    return entry, ""


def _append(net: Net, name: str, classname: str, struct: Struct) -> None:
    kind = classname or struct.get("type")
    if not isinstance(kind, str) or not kind:
        raise ValueError("has no type")
    kind = _SYNONYMS.get(kind, kind)
    if is_loss(name if kind == "custom" else kind):
        net.notes.append(f"left out: {name}, a {kind}")
        return
    weights = _weights(net, name, struct)
    if kind == "custom":
        kind = _custom(name, len(weights))
    tensors = {
        f"{name}/weights/{index}": tensor
        for index, tensor in enumerate(_tensors(kind, weights))
        if tensor is not None
    }
    previous = net.layers[-1].name if net.layers else INPUT
    net.layers.append(Layer(name, kind, (previous,), tuple(tensors), options(kind, struct)))
    net.tensors.update(tensors)
    net.notes += [f"left out: {what} of {name}, a {kind}" for what in unsaid(kind, struct)]


def _weights(net: Net, name: str, struct: Struct) -> list[Value]:
    weights = struct.get("weights")
    if is_empty(weights) and not is_empty(struct.get("filters")):
        net.notes.append(f"upgraded: {name}, filters and biases are now weights")
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
    for index, axes in enumerate(axes_of(kind, len(weights))):
        try:
            yield tensor(weights[index], axes, optional=index == 1 and kind in _OPTIONAL_BIAS)
        except ValueError as error:
            raise ValueError(f"weights/{index} {error}") from error
