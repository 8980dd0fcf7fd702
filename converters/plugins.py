"""Custom kinds of layers from a Python file of one's own (`--plugin FILE`).

The file says by MatConvNet's type name what a layer computes:

    KERAS = {"SubP": factory}      # the layer's row in the net -> keras.layers.Layer
    ORACLE = {"SubP": function}    # the same in NumPy, for netvlad-verify
    INPUTS = {"concat": (("sigmas", 1),)}   # further net inputs: (name, channels)
    CHANNELS = {"input": 1}        # of an input that no convolution reads

It is a program, and it is run: only name a file that you trust.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import ConversionError, ReadError

__all__ = ["Plugin", "load"]


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a file adds.

    keras     kind -> factory of the Keras layer from the layer's row in the `NetSpec`.
    inputs    kind -> (name, channels) of the net inputs that it reads after the layer before it.
    channels  of the net's inputs, where the layers do not tell.
    """

    path: Path
    keras: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    inputs: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)


def load(path: Path) -> Plugin:
    """Run a plugin file and take its tables.

    Raises `ReadError` for a file that is not there or has no table `KERAS`, and
    `ConversionError` with what the file itself raised.
    """
    if not path.is_file():
        raise ReadError(path, "does not exist", advice="--plugin takes a Python file.")
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ReadError(path, "is not a Python file", advice="--plugin takes a file NAME.py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConversionError(f"{path}: cannot be run: {type(error).__name__}: {error}") from error
    found = {name: getattr(module, name, {}) for name in ("KERAS", "INPUTS", "CHANNELS")}
    wrong = [name for name, table in found.items() if not isinstance(table, Mapping)]
    if wrong or not found["KERAS"] or not all(map(callable, found["KERAS"].values())):
        raise ReadError(
            path,
            f"has no table {', '.join(wrong) or 'KERAS'} that can be used",
            advice="KERAS = {'Kind': factory}, a factory takes the layer's row in the net.",
        )
    return Plugin(path, found["KERAS"], found["INPUTS"], found["CHANNELS"])
