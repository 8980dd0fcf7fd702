"""Registered Keras layers that sample maps at places of a grid; see `layers`.

A grid holds, for each place of the output, the row and the column of the input
from which it takes its value, both from -1 (the first) to 1 (the last). In
MATLAB's order it is 2×Ho×Wo×N, so that among N×H×W×C arrays it is N×2×Ho×Wo.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["AffineGrid", "BilinearSampling"]

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


@_register
class AffineGrid(keras.layers.Layer):
    """Affine maps of the regular grid (dagnn.AffineGridGenerator): N×1×1×6 to N×2×Ho×Wo.

    Of the six numbers c the row is c1·v + c2·u + c5 and the column
    c3·v + c4·u + c6, where v and u are the place of the output.
    """

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width = int(height), int(width)

    def call(self, inputs: Any) -> Any:
        numbers = ops.reshape(inputs, (-1, 6, 1, 1))
        c1, c3, c2, c4, c5, c6 = (numbers[:, index] for index in (0, 2, 1, 3, 4, 5))
        v = ops.convert_to_tensor(_places(self.height)[:, None], inputs.dtype)
        u = ops.convert_to_tensor(_places(self.width)[None, :], inputs.dtype)
        return ops.stack([c1 * v + c2 * u + c5, c3 * v + c4 * u + c6], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2, self.height, self.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}


def _places(count: int) -> Any:
    """From -1 to 1; MATLAB's linspace of one is its end."""
    return np.linspace(-1, 1, count) if count > 1 else np.ones(1)


@_register
class BilinearSampling(keras.layers.Layer):
    """Maps N×H×W×C and a grid M×2×Ho×Wo to M×Ho×Wo×C (vl_nnbilinearsampler).

    M is a multiple of N: the first M/N places are of the first map. Outside of
    a map everything is 0.
    """

    def call(self, inputs: Any) -> Any:
        maps, grid = inputs
        height, width = (ops.cast(ops.shape(maps)[axis], "float32") for axis in (1, 2))
        v = (grid[:, 0] + 1) * ((height - 1) / 2)
        u = (grid[:, 1] + 1) * ((width - 1) / 2)
        top, left = ops.floor(v), ops.floor(u)
        flat = ops.reshape(maps, (-1, maps.shape[-1]))
        first = self._first(maps, grid)
        total = 0.0
        for row, by_row in ((top, 1 - (v - top)), (top + 1, v - top)):
            for column, by_column in ((left, 1 - (u - left)), (left + 1, u - left)):
                near_row = ops.clip(row, 0.0, height - 1)
                near_column = ops.clip(column, 0.0, width - 1)
                inside = ops.cast(
                    ops.logical_and(ops.equal(near_row, row), ops.equal(near_column, column)),
                    maps.dtype,
                )
                place = ops.cast(near_row, "int32") * ops.shape(maps)[2]
                place = first + place + ops.cast(near_column, "int32")
                weight = ops.expand_dims(by_row * by_column * inside, -1)
                total = total + weight * ops.take(flat, place, axis=0)
        return total

    @staticmethod
    def _first(maps: Any, grid: Any) -> Any:
        """Where, in the flattened maps, the one begins that each grid is of."""
        count, height, width = ops.shape(maps)[:3]
        grids = ops.shape(grid)[0]
        index = ops.arange(grids, dtype="int32") * count // grids
        return ops.reshape(index * (height * width), (-1, 1, 1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        maps, grid = input_shape
        return (grid[0], grid[2], grid[3], maps[3])
