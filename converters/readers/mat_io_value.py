"""mat-io's form of a MATLAB value, which is scipy's with classes of its own, in the neutral one."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from converters.readers.mat_value import Foreign, MatObject, Value

__all__ = ["neutral"]

_OPAQUE_FIELDS = ("s0", "s1", "s2", "arr")


def neutral(value: Any) -> Value:
    """A value that mat-io gives, in the neutral form."""
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
