"""MatConvNet's DagNN: layers that read variables and parameters by name.

As `net.saveobj()` writes it (`matlab/+dagnn/@DagNN/saveobj.m`): `layers` with
name, type, inputs, outputs, params and block, `params` with name and value,
each a struct array or a cell array; or an object of the class itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.checkpoint import Layer
from converters.errors import LayerError
from converters.readers.dagnn_blocks import parameter_count, settings
from converters.readers.dagnn_order import cycles, in_order
from converters.readers.dagnn_params import Parameters
from converters.readers.mat_value import MatObject, Struct, Value, describe, is_empty
from converters.readers.net import MEND, Net, is_loss
from converters.readers.simplenn_options import is_known, options, unsaid
from converters.readers.weights import Axes, axes_of

__all__ = ["is_dagnn", "parse"]

Decode = Callable[[MatObject], Struct]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A layer as the file has it; `classname` is without `dagnn.`."""

    name: str
    classname: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    block: Struct = field(default_factory=dict)
    is_nameless: bool = False


def is_dagnn(entries: Sequence[Value]) -> bool:
    """Whether these layers are a DagNN's: they say what they read and make."""
    return any(isinstance(entry, dict) and {"block", "outputs"} & set(entry) for entry in entries)


def parse(path: Path, entries: Sequence[Value], params: Value | None, decode: Decode) -> Net:
    """Read `net.layers` and `net.params`.

    Layers come in an order of execution, which is the file's where that is one.
    Losses are left out, and so is what is computed from them alone. `decode`
    turns a class object into its properties, or raises ValueError. Raises
    `LayerError` with every layer that cannot be carried.
    """
    net, faults = Net(), dict[str, str]()
    given = list(_given(entries, decode, faults))
    kept = _without_losses(given, net.notes)
    makers = {variable: entry.name for entry in kept for variable in entry.outputs}
    faults |= _misconnected(given, kept)
    reads = {entry.name: [makers[v] for v in entry.inputs if v in makers] for entry in kept}
    faults |= cycles(reads)
    parameters = Parameters(params)
    by_name = {entry.name: entry for entry in kept}
    for name in reads if faults else in_order(reads):
        try:
            net.layers.append(_layer(by_name[name], makers, parameters, net.notes))
        except ValueError as error:
            faults.setdefault(name, str(error))
    if faults:
        raise LayerError(path, faults, advice=MEND)
    net.tensors |= parameters.read
    if nameless := [layer.name for layer in net.layers if by_name[layer.name].is_nameless]:
        net.notes.append(f"named by their place, for want of a name: {', '.join(nameless)}")
    if unread := parameters.unread:
        net.notes.append(f"left out: parameters that no layer reads: {', '.join(unread)}")
    return net


def _given(entries: Sequence[Value], decode: Decode, faults: dict[str, str]) -> Iterator[_Entry]:
    """The entries in the file's order; one that cannot be read is a fault."""
    for index, entry in enumerate(entries, start=1):
        name = f"layer{index}"
        if not isinstance(entry, dict):
            faults[name] = f"is {describe(entry)} where a struct belongs"
            continue
        if isinstance(entry.get("name"), str) and entry["name"]:
            name = str(entry["name"])
        try:
            yield _entry(name, entry, decode)
        except ValueError as error:
            faults[name] = str(error)


def _entry(name: str, struct: Struct, decode: Decode) -> _Entry:
    block, kind = struct.get("block"), struct.get("type")
    if isinstance(block, list) and len(block) == 1:
        block = block[0]
    if isinstance(block, MatObject):
        kind = block.classname
    if not isinstance(kind, str) or not kind:
        raise ValueError("has no type")
    kind = kind.removeprefix("dagnn.")
    names = {key: _names(key, struct.get(key)) for key in ("inputs", "outputs", "params")}
    if isinstance(block, MatObject):
        try:
            block = {} if is_loss(kind) else decode(block)
        except ValueError as error:
            raise ValueError(
                f"its block is an object of class {kind} that cannot be decoded: {error}; "
                "in MATLAB, turn the net into a struct: net = net.saveobj()"
            ) from error
    if not isinstance(block, dict):
        if not is_empty(block):
            raise ValueError(f"its block is {describe(block or [])} where a struct belongs")
        block = {}
    return _Entry(name, kind, **names, block=block, is_nameless=name != struct.get("name"))


def _names(key: str, value: Value | None) -> tuple[str, ...]:
    """Names given as a text, a cell array of texts, or nothing."""
    if value is None or is_empty(value):
        return ()
    names = value if isinstance(value, list) else [value]
    texts = tuple(name for name in names if isinstance(name, str) and name)
    if len(texts) < len(names):
        raise ValueError(f"{key} is {describe(value)} where names belong")
    return texts


def _without_losses(entries: Sequence[_Entry], notes: list[str]) -> list[_Entry]:
    """All but the losses and what is computed from them alone.

    A note tells which, and which of the net's inputs go with them. A distance
    (dagnn.PDist) stays where another layer reads it.
    """
    read = {name for e in entries if not is_loss(e.classname) for name in e.inputs}
    lost = {
        entry.name
        for entry in entries
        if is_loss(entry.classname)
        and not (entry.classname == "PDist" and read.intersection(entry.outputs))
    }
    while True:
        made = {variable for entry in entries if entry.name in lost for variable in entry.outputs}
        more = {e.name for e in entries if e.inputs and made.issuperset(e.inputs)} - lost
        if not more:
            break
        lost |= more
    kept = [entry for entry in entries if entry.name not in lost]
    known = {variable for entry in entries for variable in entry.outputs}
    known |= {variable for entry in kept for variable in entry.inputs}
    for entry in entries:
        if entry.name in lost:
            alone = ", ".join(variable for variable in entry.inputs if variable not in known)
            note = f"left out: {entry.name}, a {entry.classname}"
            notes.append(f"{note}, and {alone}, which only a loss reads" if alone else note)
    return kept


def _misconnected(given: Sequence[_Entry], kept: Sequence[_Entry]) -> dict[str, str]:
    """Layer -> what is wrong with its name, or with the variables that it reads and makes."""
    faults: dict[str, str] = {}
    makers: dict[str, str] = {}
    for entry in kept:
        if len(entry.outputs) != 1:
            made = ", ".join(entry.outputs) or "nothing"
            faults[entry.name] = f"a {entry.classname} that makes {made}; one output belongs there"
        for variable in entry.outputs:
            if variable in makers:
                faults[entry.name] = f"makes {variable}, which {makers[variable]} makes too"
            makers.setdefault(variable, entry.name)
    lost = {variable: e.name for e in given if e not in kept for variable in e.outputs}
    inputs = {v for e in kept for v in e.inputs if v not in makers and v not in lost}
    for entry in kept:
        if from_loss := [lost[v] for v in entry.inputs if v in lost and v not in makers]:
            faults[entry.name] = f"reads the loss {', '.join(from_loss)}"
        if not entry.inputs:
            faults[entry.name] = f"a {entry.classname} that reads nothing"
        if entry.name in inputs:
            faults[entry.name] = "is called as one of the net's own inputs is"
    counts = Counter(entry.name for entry in given)
    return faults | {name: f"{n} layers are called so" for name, n in counts.items() if n > 1}


def _layer(
    entry: _Entry, makers: Mapping[str, str], parameters: Parameters, notes: list[str]
) -> Layer:
    kind, block = settings(entry.classname, entry.block)
    names = entry.params
    if (count := parameter_count(kind, block, len(entry.inputs))) is not None:
        if len(names) < count:
            raise ValueError(f"has {len(names)} parameters where its {entry.classname} has {count}")
        names = names[:count]  # MatConvNet reads no others
    axes = axes_of(kind, len(names)) if is_known(kind) else _by_size(block, len(names))
    optional = [index == 1 and kind in ("conv", "convt") for index in range(len(names))]
    notes += [f"left out: {what} of {entry.name}, a {kind}" for what in unsaid(kind, block)]
    return Layer(
        name=entry.name,
        kind=kind,
        inputs=tuple(makers.get(variable, variable) for variable in entry.inputs),
        params=parameters.take(names, axes, optional),
        options=options(kind, block),
        output="".join(entry.outputs[:1]),
    )


def _by_size(block: Struct, count: int) -> tuple[Axes, ...]:
    """Axes of an unknown class's parameters: the first one's is the block's `size`, if it says."""
    size = block.get("size")
    first = size.size if isinstance(size, np.ndarray) and size.size > 2 else None
    return (first, *(None,) * (count - 1))[:count]
