"""`MatConvNetModel`: any MatConvNet net as a functional Keras model, one layer per source layer."""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import keras

from netvlad_keras import layers
from netvlad_keras.checked import CheckedModel, known_shape
from netvlad_keras.errors import InputError, InputShapeError, NetError
from netvlad_keras.kinds import KINDS, READS, Factory
from netvlad_keras.net import NetLayer, NetSpec
from netvlad_keras.sizes import fits, smallest
from netvlad_keras.spec import keras_name
from netvlad_keras.windows import name_for_torch

__all__ = ["KINDS", "MatConvNetModel", "register"]


def register(kind: str, factory: Factory) -> None:
    """Let `factory` make the layers of a custom kind, or of a known one in its place.

    A model's file with such a kind loads once this was called.
    """
    KINDS[kind] = factory
    READS.pop(kind, None)


@keras.saving.register_keras_serializable(package="netvlad_keras")
class MatConvNetModel(CheckedModel):
    """A MatConvNet net with its own names.

    Inputs: [batch, height, width, channels] by the source's variable names
    (`spec.inputs`), a dict or a list in that order, or one array where there is
    one; float32 or uint8, any size from `spec.minimum_size`. Output: a dict by
    the source's names (`spec.outputs`). Layers carry the source's names
    (`keras_name` of them). Layers that share a weight use the variable of the
    first that reads it, and hold none themselves.

    `zeros` builds it with zeros for weights, for a caller who is about to
    assign every one of them. Raises `NetError` with every layer that cannot be
    made, among them those of a kind that is not registered, and
    `InputError` when called with what the net cannot take. (`fit` with a loss of
    Keras's own needs output names of [A-Za-z0-9_.\\/>-].)
    """

    _spec: NetSpec

    def __init__(self, spec: NetSpec, *, zeros: bool = False, **kwargs: Any) -> None:
        _refuse_unknown(spec)
        entries = {name: _entry(name, channels) for name, channels in spec.inputs}
        made = _connected(spec, entries, zeros)
        outputs = {name: made[layer] for layer, name in spec.outputs}
        inputs: Any = {keras_name(name): entry for name, entry in entries.items()}
        if len(entries) == 1:
            (inputs,) = entries.values()
        kwargs.setdefault("name", "matconvnet")
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self._spec = spec
        self._minimum = smallest(spec) if len(entries) == 1 else (1, 1)

    @property
    def spec(self) -> NetSpec:
        """Which net this is."""
        return self._spec

    def _check(self, inputs: Any) -> None:
        sizes: dict[str, tuple[int, int]] = {}
        named = self._named(inputs)
        for name, channels in self._spec.inputs:
            shape = known_shape(named[name])
            if shape is None:
                continue
            small = any(
                size is not None and size < least
                for size, least in zip(shape[1:3], self._minimum, strict=False)
            )
            if len(shape) != 4 or shape[-1] not in (channels, None) or small:
                raise InputShapeError(name, shape, channels, self._minimum)
            if None not in shape[1:3]:
                sizes[name] = shape[1:3]
        if 1 < len(named) == len(sizes) and not fits(self._spec, sizes):
            listed = ", ".join(f"{name} {high}×{wide}" for name, (high, wide) in sizes.items())
            raise InputError(f"inputs that do not get through every layer: {listed}")

    def _named(self, inputs: Any) -> dict[str, Any]:
        """Inputs by the source's names, in whatever way they were given."""
        names = [name for name, _ in self._spec.inputs]
        if isinstance(inputs, Mapping):
            own: dict[str, str] = {keras_name(name): name for name in names}
            given = {own.get(str(name), str(name)): tensor for name, tensor in inputs.items()}
            if set(given) != set(names):
                raise InputError(
                    f"the net reads {', '.join(names)}; given: {', '.join(map(str, inputs))}"
                )
            return given
        tensors = inputs if isinstance(inputs, list | tuple) else [inputs]
        if len(tensors) != len(names):
            raise InputError(f"the net reads {', '.join(names)}; given: {len(tensors)} tensors")
        return dict(zip(names, tensors, strict=True))

    def _arranged(self, inputs: Any) -> Any:
        named = {keras_name(name): tensor for name, tensor in self._named(inputs).items()}
        return named if len(named) > 1 else next(iter(named.values()))

    @staticmethod
    def _spec_from(data: dict[str, Any]) -> NetSpec:
        return NetSpec.from_dict(data)


# A model subclass in the .h5 format is looked up by its bare class name.
keras.saving.get_custom_objects()["MatConvNetModel"] = MatConvNetModel


def _refuse_unknown(spec: NetSpec) -> None:
    faults = [f"{row.name} is of the kind {row.kind}" for row in spec.rows if row.kind not in KINDS]
    if faults:
        advice = "such a kind needs a layer first: netvlad_keras.graph.register(kind, factory)"
        raise NetError([*faults, advice])


def _entry(name: str, channels: int) -> Any:
    return keras.Input((None, None, channels), name=keras_name(name), dtype="float32")


def _connected(spec: NetSpec, entries: Mapping[str, Any], zeros: bool) -> dict[str, Any]:
    """The tensor that every layer makes, by the source's names."""
    made = dict(entries)
    if spec.mean is not None:
        first = spec.inputs[0][0]
        subtraction = layers.MeanSubtraction(spec.mean, name=f"{keras_name(first)}.mean")
        made[first] = subtraction(made[first])
    variables: dict[str, Any] = {}
    faults: dict[str, Exception] = {}
    for row in spec.rows:
        tensors = [made.get(name) for name in row.inputs]
        if any(tensor is None for tensor in tensors):
            continue  # of a layer that could not be made
        try:
            made[row.name] = _made(row, tensors, variables, zeros)
        except Exception as error:  # a custom layer may raise anything
            faults[f"{row.name} ({row.kind}): {error}"] = error
    if faults:
        raise NetError([*faults]) from next(iter(faults.values()))
    return made


def _made(row: NetLayer, tensors: list[Any], variables: dict[str, Any], zeros: bool) -> Any:
    """Make a row's layer and call it; its own weights join `variables`."""
    if len(tensors) != READS.get(row.kind, len(tensors)):
        raise ValueError(f"reads {len(tensors)} inputs, not {READS[row.kind]}")
    layer = KINDS[row.kind](row)
    layer.name = keras_name(row.name)
    lent = {w.role: variables[w.name] for w in row.weights if w.name in variables}
    _bind(layer, row, lent, zeros)
    output = layer(tensors if len(tensors) > 1 else tensors[0])
    object.__delattr__(layer, "add_weight")
    if lent:
        _disown(layer, lent)
    own = {variable.name: variable for variable in layer.weights}
    expected = {w.role: w for w in row.weights if w.role not in lent}
    if faults := [*_misfits(own, expected)]:
        raise ValueError("; ".join(faults))
    for role, weight in expected.items():
        variables[weight.name] = own[role]
    return output


def _disown(layer: Any, lent: Mapping[str, Any]) -> None:
    """Leave lent variables to their owner alone, in training and in files."""
    for variable in lent.values():
        layer._untrack_variable(variable)
    for name in ("save_own_variables", "load_own_variables"):  # Conv2D's would take them along
        plain = getattr(keras.layers.Layer, name)
        object.__setattr__(layer, name, partial(plain, layer))


def _misfits(own: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    for role in dict.fromkeys([*own, *expected]):
        if role not in expected:
            yield f"the layer makes a weight {role}, the net has none"
        elif role not in own:
            yield f"the net has a weight {role}, the layer makes none"
        elif tuple(own[role].shape) != expected[role].shape:
            yield f"{role} is {expected[role].shape}, the layer takes {tuple(own[role].shape)}"


def _bind(layer: Any, row: NetLayer, lent: Mapping[str, Any], zeros: bool) -> None:
    """Have a layer, when it is built, call its weights by their roles and use those lent to it.

    A custom layer may call them otherwise: then they go by their order.
    """
    make, waiting = layer.add_weight, [weight.role for weight in row.weights]

    def add_weight(*args: Any, name: str = "", **kwargs: Any) -> Any:
        role = name if name in waiting or not waiting else waiting[0]
        if role in waiting:
            waiting.remove(role)
        if role in lent:
            if (shape := tuple(args[0] if args else kwargs["shape"])) != tuple(lent[role].shape):
                raise ValueError(f"{role} is shared, {tuple(lent[role].shape)}, and not {shape}")
            return lent[role]
        if zeros:
            kwargs["initializer"] = "zeros"
        variable = make(*args, name=role or None, **kwargs)
        name_for_torch([variable])
        return variable

    object.__setattr__(layer, "add_weight", add_weight)
