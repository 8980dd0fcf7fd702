"""Oracle functions of custom kinds, from a Python file of one's own (`--plugin FILE`).

    ORACLE = {"SubP": function}             # (x, *weights, **options), N×H×W×C in NumPy
    INPUTS = {"concat": (("sigmas", 1),)}   # further net inputs: (name, channels)

The function takes the layer's inputs, then its weights with the source's axes, then its settings
by name, and keeps the precision of x. Any other table of the file is left to who needs it.

The file is a program, and it is run: only name one that you trust.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from converters.checkpoint import Array, Checkpoint, Layer
from converters.errors import ConversionError, ReadError
from verify.operators import OPERATORS, Operator, registered

__all__ = ["Plugin", "load", "operators", "used", "with_inputs"]

Inputs = tuple[tuple[str, int], ...]

_LAYOUT = (
    'ORACLE = {"Kind": function of (x, *weights, **options)}, '
    'INPUTS = {"Kind": (("name", channels),)}'
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a file adds.

    oracle  kind -> its function.
    inputs  kind -> (name, channels) of net inputs that it reads after those which the net names.
    keras   kind -> what makes its Keras layer, where the file has that and Keras is installed.
    """

    path: Path
    oracle: Mapping[str, Operator] = field(default_factory=dict)
    inputs: Mapping[str, Inputs] = field(default_factory=dict)
    keras: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


def load(path: Path) -> Plugin:
    """Run a plugin file and take its tables.

    Raises `ReadError` for a file that is not there or has no such table, or one of another form;
    `ConversionError` with what the file itself raised.
    """
    module = _run(path)
    oracle, inputs = (_table(path, module, name) for name in ("ORACLE", "INPUTS"))
    if not oracle and not inputs:
        raise ReadError(path, "has neither a table ORACLE nor INPUTS", advice=_LAYOUT)
    faults = [f"ORACLE[{kind!r}] is no function" for kind, f in oracle.items() if not _takes(f)]
    faults += [
        f"INPUTS[{kind!r}] is {rows!r}, not a tuple of (name, channels)"
        for kind, rows in inputs.items()
        if not _are_inputs(rows)
    ]
    if faults:
        raise ReadError(path, "; ".join(faults), advice=_LAYOUT)
    functions = {kind: _guarded(function, path) for kind, function in oracle.items()}
    read = {kind: tuple((name, int(count)) for name, count in r) for kind, r in inputs.items()}
    layers = _table(path, module, "KERAS")
    return Plugin(path, MappingProxyType(functions), MappingProxyType(read), dict(layers))


def operators(plugins: Sequence[Plugin]) -> Mapping[str, Operator]:
    """MatConvNet's functions and those of the plugins, for `oracle.execute(operators=)`.

    A plugin's stands before MatConvNet's. Raises `ConversionError` for a kind of two plugins.
    """
    found: dict[str, Operator] = {}
    for plugin in plugins:
        if twice := found.keys() & plugin.oracle.keys():
            raise ConversionError(
                f"{plugin.path}: another plugin has {', '.join(sorted(twice))} too",
                advice="Name one of the files.",
            )
        found |= plugin.oracle
    return MappingProxyType({**OPERATORS, **found})


@contextmanager
def used(paths: Sequence[Path]) -> Iterator[tuple[Plugin, ...]]:
    """Load plugin files and let their functions be MatConvNet's while the block runs.

    Where they have Keras layers too, a `.keras` file with those kinds can be opened.
    """
    found = tuple(load(path) for path in paths)
    layers = {kind: made for plugin in found for kind, made in plugin.keras.items()}
    kinds = import_module("netvlad_keras.graph").KINDS if layers else {}
    before = dict(kinds)
    with registered({k: f for k, f in operators(found).items() if f is not OPERATORS.get(k)}):
        kinds.update(layers)
        try:
            yield found
        finally:
            kinds.clear()
            kinds.update(before)


def with_inputs(checkpoint: Checkpoint, plugins: Sequence[Plugin]) -> Checkpoint:
    """The same net, whose layers read the inputs that the plugins say they do."""

    def extended(layer: Layer) -> Layer:
        more = dict.fromkeys(name for p in plugins for name, _ in p.inputs.get(layer.kind, ()))
        fresh = tuple(name for name in more if name not in layer.inputs)
        return replace(layer, inputs=(*layer.inputs, *fresh)) if fresh else layer

    return replace(checkpoint, layers=tuple(map(extended, checkpoint.layers)))


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise ReadError(path, "does not exist", advice="--plugin takes a Python file.")
    spec = importlib.util.spec_from_file_location(f"oracle_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ReadError(path, "is not a Python file", advice="--plugin takes a file NAME.py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a file of somebody's own raises
        raise ConversionError(f"{path}: cannot be run: {_words(error)}") from error
    return module


def _table(path: Path, module: ModuleType, name: str) -> Mapping[str, Any]:
    table = getattr(module, name, {})
    if not isinstance(table, Mapping) or not all(isinstance(kind, str) for kind in table):
        raise ReadError(path, f"{name} is no table by the kinds' names", advice=_LAYOUT)
    return table


def _takes(function: Any) -> bool:
    """Whether it is a function whose arguments can be told."""
    try:
        return bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False


def _are_inputs(rows: Any) -> bool:
    if not isinstance(rows, list | tuple):
        return False
    return all(
        isinstance(row, list | tuple)
        and len(row) == 2
        and isinstance(row[0], str)
        and isinstance(row[1], int)
        and row[1] > 0
        for row in rows
    )


def _guarded(function: Callable[..., Any], path: Path) -> Operator:
    """The function, whose mistakes are the layer's (`ValueError`); its result keeps x's type."""

    @wraps(function)
    def guarded(x: Array, *arrays: Array, **options: Any) -> Array:
        try:
            y = np.asarray(function(x, *arrays, **options))
        except Exception as error:
            raise ValueError(f"its function of {path} failed: {_words(error)}") from error
        if y.ndim not in (2, 4) or y.dtype.kind not in "biuf":
            wanted = "N×H×W×C or N×D numbers"
            raise ValueError(f"its function of {path} gave {y.dtype} {y.shape}, not {wanted}")
        return y.astype(x.dtype, copy=False)

    return guarded


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
