"""What a MATLAB value becomes, whichever container of .mat file it was stored in.

numeric, logical   array with MATLAB's axes (two at least), in Fortran order
char               str, the rows of a char matrix joined by newlines
struct (1×1)       dict
struct array, cell list in MATLAB's linear order
class object       `MatObject`, not decoded yet
anything else      `Foreign`: it is named, and refused only where it is needed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from converters.checkpoint import Array

__all__ = [
    "Foreign",
    "MatObject",
    "Number",
    "Plain",
    "Struct",
    "Value",
    "describe",
    "is_empty",
    "numbers",
    "plain",
]

Number = int | float
_SETTING_LIMIT = 4096
Plain = Number | str | tuple[Any, ...]
Value: TypeAlias = "Array | str | Struct | list[Value] | MatObject | Foreign"
Struct: TypeAlias = "dict[str, Value]"


@dataclass(frozen=True, slots=True)
class MatObject:
    """A class object: its class and the reference into the file's subsystem.

    reference  uint32 column: a magic number, the count of axes, the axes, the
               objects' numbers, the class's number.
    content    its properties as mat-io has them, where it lies within another
               object and has come with that.
    """

    classname: str
    reference: Array
    content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """A value that no net needs; `what` says it in words ("a function handle")."""

    what: str


def is_empty(value: Value | None) -> bool:
    """Whether there is nothing: a struct array has every field in every element."""
    if isinstance(value, np.ndarray):
        return value.size == 0
    return value is None or value == [] or value == ""


def numbers(value: Value) -> tuple[Number, ...] | None:
    """A numeric value's elements in MATLAB's linear order, None where it is none.

    Whole numbers come as int: MATLAB itself stores 1.0 as a byte.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        return None
    elements: Sequence[float] = value.ravel(order="F").tolist()
    return tuple(int(n) if n == n // 1 and abs(n) < 2**53 else float(n) for n in elements)


def plain(value: Value) -> Plain | None:
    """A text, number, vector or matrix (as rows) without arrays; None for all else.

    An array of more than a few thousand numbers is data, not a setting: None.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, np.ndarray) or value.ndim > 2 or value.size > _SETTING_LIMIT:
        return None
    flat = numbers(value)
    if flat is None:
        return None
    if len(flat) == 1:
        return flat[0]
    if value.ndim < 2 or 1 in value.shape or not flat:
        return flat
    height = value.shape[0]
    return tuple(flat[row::height] for row in range(height))


def describe(value: Value) -> str:
    """The kind of a value in words, for messages."""
    if isinstance(value, np.ndarray):
        return f"a {'×'.join(map(str, value.shape))} {value.dtype.name} array"
    if isinstance(value, MatObject):
        return f"an object of class {value.classname}"
    if isinstance(value, Foreign):
        return value.what
    return {str: "a text", dict: "a struct", list: "a cell or struct array"}[type(value)]
