"""`NetSpec`: any MatConvNet net as frozen data. No Keras here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from netvlad_keras.errors import NetError
from netvlad_keras.sizes import smallest

__all__ = ["NetError", "NetLayer", "NetSpec", "Weight"]


@dataclass(frozen=True, slots=True)
class Weight:
    """One weight of a layer.

    role   what the layer calls it: `kernel`, `bias`, `multiplier`, `sigma`, …
    name   canonical, `<first layer that reads it>/<its role there>`; layers
           that share it have the same name.
    """

    role: str
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetLayer:
    """One layer in MatConvNet's vocabulary.

    kind     MatConvNet's `type`, or a custom layer's.
    inputs   names of the layers that it reads, or of the net's inputs.
    weights  in the order in which the layer makes them.
    options  MatConvNet's settings: numbers, strings, and tuples of them.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    weights: tuple[Weight, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", {k: _tuples(v) for k, v in self.options.items()})


@dataclass(frozen=True, slots=True)
class NetSpec:
    """A graph of layers, with the source's own names.

    inputs   (variable, channels), in the net's order.
    rows     the layers in an order in which they can be executed.
    outputs  (layer, name of what it makes), in the net's order.
    name     the net's own name, `""` if it has none.
    mean     what the net subtracts from its first input, C or H×W×C numbers;
             `None`: nothing. The weight `<input>/mean` starts with it.

    Raises `NetError` with everything that is wrong: two layers of one name, a
    reader of something that is not there, a cycle, weights that are shared
    under different shapes.
    """

    inputs: tuple[tuple[str, int], ...]
    rows: tuple[NetLayer, ...]
    outputs: tuple[tuple[str, str], ...]
    name: str = ""
    mean: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", _tuples(self.mean))
        faults = [*_faults(self), *_weight_faults(self)]
        if faults:
            raise NetError(faults)

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """(name, kind) of every layer in order."""
        return tuple((row.name, row.kind) for row in self.rows)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight by its canonical name; a shared one stands once."""
        shapes = {weight.name: weight.shape for row in self.rows for weight in row.weights}
        if self.mean is None:
            return shapes
        return {f"{self.inputs[0][0]}/mean": _shape(self.mean), **shapes}

    @property
    def minimum_size(self) -> int:
        """Smallest height and width of the inputs for which every layer has an output.

        A custom kind counts as one that keeps the size.
        """
        return max(smallest(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetSpec:
        """The spec that `to_dict` wrote, from Python or from JSON."""
        rows = tuple(_row(row) for row in data["rows"])
        return cls(**{**{key: _tuples(value) for key, value in data.items()}, "rows": rows})


def _row(data: Mapping[str, Any]) -> NetLayer:
    weights = (Weight(**{**each, "shape": tuple(each["shape"])}) for each in data["weights"])
    return NetLayer(**{**data, "inputs": tuple(data["inputs"]), "weights": tuple(weights)})


def _tuples(value: Any) -> Any:
    """JSON has no tuples: its lists as such, all the way down."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _shape(mean: Any) -> tuple[int, ...]:
    return (len(mean), *_shape(mean[0])) if isinstance(mean, tuple) else ()


def _faults(spec: NetSpec) -> Iterator[str]:
    """What is wrong with the graph."""
    inputs, made = [name for name, _ in spec.inputs], [row.name for row in spec.rows]
    yield from (
        f"there are {n} of the name {x}" for x, n in Counter(inputs + made).items() if n > 1
    )
    if not (spec.rows and spec.inputs and spec.outputs):
        yield "a net has inputs, layers and outputs"
    known = {*inputs, *made}
    for row in spec.rows:
        if not row.inputs:
            yield f"{row.name} reads nothing"
        for name in dict.fromkeys(row.inputs):
            if name not in known:
                yield f"{row.name} reads {name}, which is not there"
    for layer, name in spec.outputs:
        if layer not in made:
            yield f"the output {name} is of {layer}, which is no layer"
    names = Counter(name for _, name in spec.outputs)
    yield from (f"{n} outputs are called {name}" for name, n in names.items() if n > 1)
    yield from _order_faults(spec)
    if spec.mean is not None and spec.inputs:
        name, channels = spec.inputs[0]
        if len(shape := _shape(spec.mean)) not in (1, 3) or shape[-1] != channels:
            yield f"a mean of shape {shape} does not fit {name} with its {channels} channels"


def _order_faults(spec: NetSpec) -> Iterator[str]:
    """Layers before what they read, and layers that wait for each other."""
    waits = {row.name: set(row.inputs) for row in spec.rows}
    waits = {name: reads & waits.keys() for name, reads in waits.items()}
    seen: set[str] = set()
    for row in spec.rows:
        for name in sorted(waits[row.name] - seen - {row.name}):
            yield f"{row.name} stands before {name}, which it reads"
        seen.add(row.name)
    while free := [name for name, reads in waits.items() if not reads & waits.keys()]:
        for name in free:
            del waits[name]
    if waits:
        yield f"a cycle goes through {', '.join(_cycle(waits))}"


def _cycle(waits: Mapping[str, set[str]]) -> list[str]:
    """The layers of one cycle; each of `waits` waits for another one of them."""
    path = [next(iter(waits))]
    while (following := sorted(waits[path[-1]] & waits.keys())[0]) not in path:
        path.append(following)
    return path[path.index(following) :][::-1]


def _weight_faults(spec: NetSpec) -> Iterator[str]:
    first: dict[str, Weight] = {}
    for row in spec.rows:
        for role, count in Counter(weight.role for weight in row.weights).items():
            if count > 1:
                yield f"{row.name} has {count} weights called {role}"
        for weight in row.weights:
            if weight.name not in first and weight.name != f"{row.name}/{weight.role}":
                yield f"{row.name}: its {weight.role} is called {weight.name}"
            shape = first.setdefault(weight.name, weight).shape
            if shape != weight.shape:
                yield f"{row.name}: {weight.name} is {shape} elsewhere, {weight.shape} here"
