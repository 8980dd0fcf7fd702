"""MAT-file versions 5 to 7: read by scipy, without a copy beside the one that scipy makes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from converters.readers.mat_value import Foreign, MatObject, Struct, Value

__all__ = ["load", "neutral", "variables"]

_OPAQUE_FIELDS = ("s0", "s1", "s2", "arr")


def variables(path: Path) -> dict[str, str]:
    """Name -> MATLAB class of every variable, in the file's order; no data is read."""
    listing = scipy.io.whosmat(path, appendmat=False)
    return {name: kind for name, _, kind in listing if name != "__function_workspace__"}


def load(path: Path, names: Iterable[str]) -> Struct:
    """The named variables. scipy's errors and warnings come out as they are, raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=scipy.io.matlab.MatReadWarning)
        warnings.filterwarnings("error", message="Unreadable variable")
        found = scipy.io.loadmat(path, variable_names=list(names), mat_dtype=False, appendmat=False)
    return {name: neutral(found[name]) for name in names if name in found}


def neutral(value: Any) -> Value:
    """scipy's form of a MATLAB value (which is mat-io's too) in the neutral one."""
    if scipy.sparse.issparse(value):
        return Foreign("a sparse matrix")
    if not isinstance(value, np.ndarray):
        classname = getattr(value, "classname", "")
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
