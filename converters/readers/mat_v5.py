"""MAT-file versions 5 to 7: read by scipy, without a copy beside the one that scipy makes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from converters.readers.mat_v5_listing import Variable, listing
from converters.readers.mat_value import Foreign, MatObject, Struct, Value

__all__ = ["load", "neutral", "variables"]

_OPAQUE_FIELDS = ("s0", "s1", "s2", "arr")


def variables(path: Path) -> dict[str, str]:
    """Name -> MATLAB class of every variable, in the file's order; no data is read."""
    return {variable.name: variable.kind for variable in listing(path)}


def load(path: Path, names: Iterable[str]) -> Struct:
    """The named variables. scipy's errors and warnings come out as they are, raised."""
    objects = {variable.name: variable for variable in listing(path) if variable.is_object}
    plain = [name for name in names if name not in objects]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=scipy.io.matlab.MatReadWarning)
        warnings.filterwarnings("error", message="Unreadable variable")
        found = scipy.io.loadmat(path, variable_names=plain, appendmat=False) if plain else {}
    values = {name: neutral(found[name]) for name in plain if name in found}
    return values | {n: _object(path, objects[n]) for n in names if n in objects}


def _object(path: Path, variable: Variable) -> Value:
    """A variable that is a class object, cut out: scipy gives each of them the name None."""
    with path.open("rb") as file:
        header = file.read(128)
        file.seek(variable.start)
        piece = io.BytesIO(header + file.read(variable.end - variable.start))
    return neutral(scipy.io.loadmat(piece)["None"])


def neutral(value: Any) -> Value:
    """scipy's form of a MATLAB value (which is mat-io's too) in the neutral one."""
    if scipy.sparse.issparse(value):
        return Foreign("a sparse matrix")
    if value is None:
        return {}  # a struct that has no fields
    if not isinstance(value, np.ndarray):
        classname, content = (getattr(value, name, None) for name in ("classname", "properties"))
        if isinstance(content, dict):
            return MatObject(classname or "", np.empty(0, np.uint32), content)
        return Foreign(f"an object of class {classname}" if classname else repr(value)[:60])
    if value.dtype.names == _OPAQUE_FIELDS:
        return _opaque(value)
    if isinstance(value, scipy.io.matlab.MatlabFunction):
        return Foreign("a function handle")
    if isinstance(value, scipy.io.matlab.MatlabObject):
        return Foreign(f"an object of class {value.classname}")
    if value.dtype.names is not None:
        structs = [
            {name: neutral(element[name]) for name in value.dtype.names}
            for element in value.ravel(order="F")
        ]
        return structs[0] if value.size == 1 else list(structs)
    if value.dtype == object:
        if value.size == 1 and value.flat[0] is None:
            return {}
        return [neutral(element) for element in value.ravel(order="F")]
    if value.dtype.kind in "US":
        return "\n".join(map(str, value.ravel()))
    return value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))


def _opaque(value: Any) -> Value:
    element = value.ravel()[0]
    system, classname = (bytes(element[name]).decode("latin1") for name in ("s1", "s2"))
    if system != "MCOS":
        return Foreign(f"a {system} object of class {classname}")
    return MatObject(classname, element["arr"])
