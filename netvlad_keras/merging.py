"""Registered Keras layers that merge what several layers make, or reshape it; see `layers`.

A vector, N×C, among maps counts as a map of 1×1.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import keras
from keras import ops

__all__ = ["Concatenation", "Crop", "Flatten", "Product", "Scale", "Sum"]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


@_register
class Concatenation(keras.layers.Layer):
    """One behind the other along MATLAB's axis `dim` of H×W×C×N (vl_nnconcat): 1, 2, 3 or 4."""

    def __init__(self, dim: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dim not in (1, 2, 3, 4):
            raise ValueError(f"dim is {dim}, it must be 1, 2, 3 or 4")
        self.dim = int(dim)

    def build(self, input_shape: Any) -> None:
        shapes = [list(shape) for shape in _map_shapes(input_shape)]
        axis = self._axis(shapes[0])
        _refuse_unlike([shape[:axis] + shape[axis + 1 :] for shape in shapes])

    def call(self, inputs: Any) -> Any:
        maps = _maps(inputs)
        return ops.concatenate(maps, axis=self._axis(maps[0].shape))

    def _axis(self, shape: Sequence[Any]) -> int:
        if len(shape) == 2 and self.dim in (1, 2):
            raise ValueError(f"vectors have no axis {self.dim}")
        return {1: 1, 2: 2, 3: len(shape) - 1, 4: 0}[self.dim]

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = _map_shapes(input_shape)
        axis = self._axis(shapes[0])
        sizes = [shape[axis] for shape in shapes]
        whole = list(shapes[0])
        whole[axis] = None if None in sizes else sum(sizes)
        return tuple(whole)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


@_register
class Sum(keras.layers.Layer):
    """The sum, element by element; nothing is spread (dagnn.Sum)."""

    def build(self, input_shape: Any) -> None:
        _refuse_unlike(_map_shapes(input_shape))

    def call(self, inputs: Any) -> Any:
        maps = _maps(inputs)
        _refuse_unlike([tuple(tensor.shape) for tensor in maps])
        return reduce(ops.add, maps)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = _map_shapes(input_shape)
        known = (next((n for n in sizes if n is not None), None) for sizes in zip(*shapes))  # noqa: B905
        return tuple(known)


@_register
class Product(keras.layers.Layer):
    """The product, element by element; an axis of 1 is spread (bsxfun)."""

    def call(self, inputs: Any) -> Any:
        return reduce(ops.multiply, _maps(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return _spread(_map_shapes(input_shape))


@_register
class Scale(keras.layers.Layer):
    """x · multiplier + bias, where an axis of 1 is spread (dagnn.Scale).

    `multiplier` and `bias` are the shapes of its weights, C or H×W×C; what has
    none is read as a second and a third input. Without either: no bias.
    """

    def __init__(
        self,
        multiplier: Sequence[int] | None = None,
        bias: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shapes = {"multiplier": multiplier, "bias": bias}

    def build(self, input_shape: Any) -> None:
        starts = {"multiplier": "ones", "bias": "zeros"}
        self.parameters = [
            self.add_weight(name=name, shape=tuple(shape), initializer=starts[name])
            for name, shape in self.shapes.items()
            if shape is not None
        ]

    def call(self, inputs: Any) -> Any:
        data, *terms = _maps(inputs)
        multiplier, *bias = [*terms, *self.parameters]
        return reduce(ops.add, bias, ops.multiply(data, multiplier))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return _spread(_map_shapes(input_shape))

    def get_config(self) -> dict[str, Any]:
        own = {name: shape and list(shape) for name, shape in self.shapes.items()}
        return {**super().get_config(), **own}


@_register
class Crop(keras.layers.Layer):
    """The first input, cut to the height and width of the second (dagnn.Crop).

    At most `offset` rows and columns go above and to the left, the rest below
    and to the right.
    """

    def __init__(self, offset: Sequence[int] = (0, 0), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.offset = tuple(int(size) for size in offset)

    def call(self, inputs: Any) -> Any:
        source, like = (ops.shape(tensor)[1:3] for tensor in inputs)
        (top, high), (left, wide) = (
            (_smaller(source[axis] - like[axis], self.offset[axis]), like[axis]) for axis in (0, 1)
        )
        return inputs[0][:, top : top + high, left : left + wide]

    def compute_output_shape(self, input_shape: Any) -> Any:
        source, like = input_shape
        return (source[0], *like[1:3], source[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "offset": list(self.offset)}


@_register
class Flatten(keras.layers.Layer):
    """N×H×W×C to N×1×1×D as MATLAB reshapes: rows fastest, then columns, then channels."""

    def call(self, inputs: Any) -> Any:
        size = self.compute_output_shape(inputs.shape)[-1]
        shape = (-1, 1, 1, size) if size else (ops.shape(inputs)[0], 1, 1, -1)
        return ops.reshape(ops.transpose(inputs, (0, 3, 2, 1)), shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        sizes = input_shape[1:]
        return (input_shape[0], 1, 1, None if None in sizes else math.prod(sizes))


def _maps(inputs: Any) -> list[Any]:
    tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    ranks = {len(tensor.shape) for tensor in tensors}
    if len(ranks) == 1:
        return tensors
    return [tensor[:, None, None] if len(tensor.shape) == 2 else tensor for tensor in tensors]


def _map_shapes(shape: Sequence[Any]) -> list[tuple[Any, ...]]:
    shapes = shape if isinstance(shape[0], list | tuple) else [shape]
    if len({len(shape) for shape in shapes}) == 1:
        return [tuple(shape) for shape in shapes]
    return [(s[0], 1, 1, s[1]) if len(s) == 2 else tuple(s) for s in shapes]


def _refuse_unlike(shapes: Sequence[Sequence[Any]]) -> None:
    """Sizes that are known and differ; TensorFlow would spread an axis of 1."""
    for sizes in zip(*shapes, strict=True):
        if len({size for size in sizes if size is not None}) > 1:
            listed = ", ".join(str(tuple(shape)) for shape in shapes)
            raise ValueError(f"its inputs differ in shape: {listed}")


def _spread(shapes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    found = []
    for sizes in zip(*shapes, strict=True):
        larger = [size for size in sizes if size not in (None, 1)]
        found.append(larger[0] if larger else None if None in sizes else 1)
    return tuple(found)


def _smaller(size: Any, limit: int) -> Any:
    return min(size, limit) if isinstance(size, int) else ops.minimum(size, limit)
