"""A checkpoint or an error as plain JSON and back.

What comes out of the child is believed no more than the file: no pickle, known errors alone,
and every array within the bytes that it says it lies in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.checkpoint import Array, Checkpoint, Layer, Origin
from converters.errors import (
    ConversionError,
    EnvironmentFailure,
    LayerError,
    MappingError,
    ReadError,
    SourceError,
)

__all__ = ["checkpoint_from", "checkpoint_to", "error_from", "error_to", "loads"]

#: Error -> its own arguments.
_ERRORS: Mapping[type[ConversionError], tuple[str, ...]] = {
    ReadError: ("path", "reason"),
    LayerError: ("path", "faults"),
    MappingError: ("missing", "unexpected", "misfits"),
    SourceError: ("message",),
    EnvironmentFailure: ("message",),
    ConversionError: ("message",),
}
_BY_NAME = {kind.__name__: kind for kind in _ERRORS}
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")


def checkpoint_to(checkpoint: Checkpoint, lay: Callable[[Array], Any]) -> dict[str, Any]:
    """`lay` says where an array lies."""
    origin = checkpoint.origin
    return {
        "tensors": [[name, lay(array)] for name, array in checkpoint.tensors.items()],
        "layers": [
            _to((x.name, x.kind, x.inputs, x.params, dict(x.options), x.output))
            for x in checkpoint.layers
        ],
        "preprocessing": _to(dict(checkpoint.preprocessing)),
        "outputs": _to(checkpoint.outputs),
        "origin": _to(
            (
                *(str(origin.path), origin.format, tuple(map(str, origin.files))),
                *(origin.session, origin.notes),
            )
        ),
    }


def checkpoint_from(data: Any, find: Callable[[Any], Array]) -> Checkpoint:
    """`find` gives the array that lies there. Raises ValueError or TypeError for anything else."""
    path, form, files, session, notes = _from(data["origin"])
    layers = []
    for record in data["layers"]:
        name, kind, inputs, params, options, output = _from(record)
        layers.append(Layer(name, kind, _texts(inputs), _texts(params), dict(options), output))
    return Checkpoint(
        tensors={_text(name): find(place) for name, place in data["tensors"]},
        layers=tuple(layers),
        preprocessing=dict(_from(data["preprocessing"])),
        origin=Origin(
            Path(path), _text(form), tuple(map(Path, files)), _text(session), _texts(notes)
        ),
        outputs=_texts(_from(data["outputs"])),
    )


def error_to(error: ConversionError) -> dict[str, Any]:
    kind = next(kind for kind in _ERRORS if isinstance(error, kind))
    arguments = [_to(getattr(error, name)) for name in _ERRORS[kind]]
    return {"kind": kind.__name__, "arguments": arguments, "advice": error.advice}


def error_from(data: Any) -> ConversionError:
    kind = _BY_NAME[data["kind"]]
    return kind(*map(_from, data["arguments"]), advice=_text(data["advice"]))


def array(place: Any, memory: Any) -> Array:
    """The array at (dtype, offset, shape, strides) of `memory`; numpy compares the bounds."""
    dtype, offset, shape, strides = place
    if not _DTYPE.fullmatch(dtype) or min([offset, *shape, *strides], default=0) < 0:
        raise ValueError(f"an array of {dtype}, {shape}")
    if 0 in shape:
        return np.empty(tuple(shape), dtype)
    return np.ndarray(tuple(shape), dtype, memory, offset, tuple(strides))


def loads(data: bytes) -> Any:
    """JSON; raises ValueError, also where it lies too deep."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("an answer that lies too deep") from error


def _to(value: Any) -> Any:
    if isinstance(value, tuple):
        return {"tuple": [_to(each) for each in value]}
    if isinstance(value, list):
        return [_to(each) for each in value]
    if isinstance(value, Mapping):
        return {"dict": [[_to(key), _to(each)] for key, each in value.items()]}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} in a checkpoint")


def _from(value: Any) -> Any:
    if isinstance(value, list):
        return [_from(each) for each in value]
    if isinstance(value, dict):
        ((form, content),) = value.items()
        if form == "tuple":
            return tuple(_from(each) for each in content)
        if form == "dict":
            return {_from(key): _from(each) for key, each in content}
        raise ValueError(f"a value of form {form!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a text belongs")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)
