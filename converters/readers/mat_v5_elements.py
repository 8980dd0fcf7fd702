"""The data elements of MAT-file versions 5 to 7, each held against what contains it.

Format: The MathWorks, "MAT-File Format", level 5. Every size that an element declares is
compared with the bytes that are there before anything of that size is made; numbers are
views of those bytes, none is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from converters.checkpoint import Array
from converters.readers.mat_value import Foreign, MatObject, Struct, Value

__all__ = ["Damaged", "Elements"]

_MATRIX = 14
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_SINGLE, _COMPLEX = 7, 0x800
#: Types of stored numbers.
_TYPES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
#: The type of each numeric class; whole numbers may be stored as shorter integers.
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_INT8, _INT32, _UINT32 = 1, 5, 6
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_FIELD = re.compile(r"\w+", re.ASCII)
_DEPTH, _AXES, _FIELDS = 64, 32, 4096  # more than any net has, less than what hurts


class Damaged(ValueError):
    """The bytes are no such file; `offset` is where."""

    def __init__(self, reason: str, offset: int) -> None:
        self.reason, self.offset = reason, offset
        super().__init__(reason, offset)

    def __str__(self) -> str:
        return f"at byte {self.offset}: {self.reason}"


@dataclass(frozen=True, slots=True)
class _Element:
    """A data element: its type, where its data is, and where the next one begins."""

    type: int
    start: int
    size: int
    end: int

    @property
    def after(self) -> int:
        return self.start + self.size


class Elements:
    """The elements in some bytes; `order` is `<` or `>`."""

    def __init__(self, data: Array, order: str) -> None:
        self._data, self._order = data, order
        self._word = np.dtype(f"{order}u4")

    def matrix(self, at: int, end: int, depth: int = 0) -> tuple[Value, int]:
        """The MATLAB value whose element begins at `at`, and where the next one begins."""
        element = self._element(at, end)
        if element.type != _MATRIX:
            raise Damaged(f"an element of type {element.type} where a value belongs", at)
        if depth > _DEPTH:
            raise Damaged(f"values lie within each other, more than {_DEPTH} deep", at)
        if not element.size:
            return np.empty((0, 0)), element.end
        value, last = self._content(element.start, element.after, depth)
        if element.after - last >= 8:
            raise Damaged(f"{element.after - last} bytes are left over in a value", last)
        return value, element.end

    def _content(self, at: int, end: int, depth: int) -> tuple[Value, int]:
        flags = self._numbers(at, end, _UINT32, "array flags")
        if len(flags[0]) != 2:
            raise Damaged("no array flags", at)
        word, at = int(flags[0][0]), flags[1]
        code = word & 0xFF
        if code == _OPAQUE:
            return self._opaque(at, end, depth)
        shape, at = self._shape(at, end)
        name = self._element(at, end)
        if code in _CLASSES:
            return self._numeric(code, word, shape, name.end, end)
        if code not in _READ:
            raise Damaged(f"a value of unknown class {code}", at)
        return _READ[code](self, shape, name.end, end, depth)

    def _element(self, at: int, end: int) -> _Element:
        if at + 8 > end:
            raise Damaged("an element's tag is cut off", at)
        word = self._unsigned(at)
        if word >> 16:  # four bytes or fewer, packed into the tag
            kind, size, start, after = word & 0xFFFF, word >> 16, at + 4, at + 8
            if size > 4:
                raise Damaged(f"a packed element of {size} bytes", at)
        else:
            kind, size, start = word, self._unsigned(at + 4), at + 8
            after = start + (size + 7) // 8 * 8
        if start + size > end:
            raise Damaged(f"declares {size} bytes, but {end - start} are there", at)
        return _Element(kind, start, size, after)

    def _unsigned(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + 4], "little" if self._order == "<" else "big")

    def _numbers(self, at: int, end: int, kind: int, what: str) -> tuple[Array, int]:
        """32-bit numbers of the given type, and where the next element begins."""
        element = self._element(at, end)
        if element.type != kind or element.size % 4:
            raise Damaged(f"an element of type {element.type} where {what} belong", at)
        return self._view(element, f"{self._order}{_TYPES[kind]}"), element.end

    def _view(self, element: _Element, dtype: str) -> Array:
        values = self._data[element.start : element.after].view(dtype)
        return np.require(values.astype(values.dtype.newbyteorder("="), copy=False), None, ["A"])

    def _shape(self, at: int, end: int) -> tuple[tuple[int, ...], int]:
        sizes, after = self._numbers(at, end, _INT32, "dimensions")
        shape = tuple(int(size) for size in sizes)
        if not 2 <= len(shape) <= _AXES or min(shape) < 0:
            raise Damaged(f"dimensions {shape}", at)
        return shape, after

    def _count(self, shape: tuple[int, ...], at: int, end: int, each: int = 1) -> int:
        """How many values a cell or struct array holds; each takes eight bytes at least."""
        count = prod(shape) * each
        if count * 8 > end - at:
            raise Damaged(f"declares {count} values, but {max(end - at, 0)} bytes are there", at)
        return count

    def _numeric(
        self, code: int, word: int, shape: tuple[int, ...], at: int, end: int
    ) -> tuple[Value, int]:
        real, after = self._part(code, shape, at, end)
        if word & _COMPLEX:
            _, after = self._part(code, shape, after, end)
            own = "complex64" if code == _SINGLE else "complex128"
            return Foreign(f"a {'×'.join(map(str, shape))} {own} array"), after
        return real, after

    def _part(self, code: int, shape: tuple[int, ...], at: int, end: int) -> tuple[Array, int]:
        element = self._element(at, end)
        own, stored = np.dtype(_CLASSES[code]), _TYPES.get(element.type)
        shorter = stored is not None and stored[0] in "iu" and int(stored[1]) < own.itemsize
        if stored is None or (stored != _CLASSES[code] and not shorter and element.size):
            raise Damaged(f"numbers of type {element.type} in an array of {own.name}", at)
        if element.size != prod(shape) * int(stored[1]):
            dimensions = "×".join(map(str, shape))
            raise Damaged(f"{element.size} bytes for {dimensions} numbers of {stored}", at)
        values = self._view(element, f"{self._order}{stored}")
        return values.reshape(shape, order="F"), element.end

    def _cell(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> tuple[Value, int]:
        values: list[Value] = []
        for _ in range(self._count(shape, at, end)):
            value, at = self.matrix(at, end, depth + 1)
            values.append(value)
        return values, at

    def _struct(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> tuple[Value, int]:
        names, at = self._fields(at, end)
        structs: list[Struct] = []
        if not names and prod(shape) > 1:
            raise Damaged(f"an array of {prod(shape)} structs without fields", at)
        self._count(shape, at, end, len(names))
        for _ in range(prod(shape)):
            struct: Struct = {}
            for name in names:
                struct[name], at = self.matrix(at, end, depth + 1)
            structs.append(struct)
        return structs[0] if len(structs) == 1 else list(structs), at

    def _fields(self, at: int, end: int) -> tuple[list[str], int]:
        (width, *_), after = self._numbers(at, end, _INT32, "the length of field names")
        element = self._element(after, end)
        if element.type != _INT8 or width < 1 or element.size % width:
            raise Damaged(f"field names of {width} in {element.size} bytes", after)
        raw = self._data[element.start : element.after].tobytes()
        pieces = (raw[i : i + width].split(b"\0")[0] for i in range(0, len(raw), int(width)))
        names = [piece.decode("latin-1") for piece in pieces]
        if len(names) > _FIELDS or len(set(names)) < len(names):
            raise Damaged(f"{len(names)} field names, {len(set(names))} different ones", after)
        if wrong := [name for name in names if not _FIELD.fullmatch(name)]:
            raise Damaged(f"a field is called {wrong[0]!r}", after)
        return names, element.end

    def _object(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> tuple[Value, int]:
        classname, at = self._text(at, end)
        _, at = self._struct(shape, at, end, depth)
        return Foreign(f"an object of class {classname}"), at

    def _function(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> tuple[Value, int]:
        _, at = self.matrix(at, end, depth + 1)
        return Foreign("a function handle"), at

    def _sparse(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> tuple[Value, int]:
        while end - at >= 8:
            at = self._element(at, end).end
        return Foreign("a sparse matrix"), at

    def _opaque(self, at: int, end: int, depth: int) -> tuple[Value, int]:
        _, at = self._text(at, end)
        system, at = self._text(at, end)
        classname, at = self._text(at, end)
        reference, at = self.matrix(at, end, depth + 1)
        if system != "MCOS" or not isinstance(reference, np.ndarray):
            return Foreign(f"a {system} object of class {classname}"), at
        return MatObject(classname, reference), at

    def _text(self, at: int, end: int) -> tuple[str, int]:
        element = self._element(at, end)
        if element.type != _INT8:
            raise Damaged(f"an element of type {element.type} where a name belongs", at)
        return self._data[element.start : element.after].tobytes().decode("latin-1"), element.end

    def _char(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> tuple[Value, int]:
        element = self._element(at, end)
        raw = self._data[element.start : element.after].tobytes()
        codec = _TEXTS.get(element.type)
        if codec is None and raw:
            raise Damaged(f"letters of type {element.type}", at)
        little = "-le" if self._order == "<" else "-be"
        codec = f"{codec}{little}" if codec in ("utf-16", "utf-32") else codec or "latin-1"
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError as error:
            raise Damaged(f"letters that are not {codec}", at) from error
        count = prod(shape)
        if len(text.encode("utf-16-le")) // 2 != count and len(text) != count:
            raise Damaged(f"{len(text)} letters where {count} belong", at)
        height = shape[0] if count else 1
        rows = [text[row::height] for row in range(height)]
        return "\n".join(rows), element.end


_Reader = Callable[[Elements, tuple[int, ...], int, int, int], tuple[Value, int]]
_READ: Mapping[int, _Reader] = {
    _CELL: Elements._cell,
    _STRUCT: Elements._struct,
    _OBJECT: Elements._object,
    _CHAR: Elements._char,
    _SPARSE: Elements._sparse,
    _FUNCTION: Elements._function,
}
