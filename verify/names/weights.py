"""How each format lays out a weight, by the weight's name within its layer and its rank."""

from __future__ import annotations

from collections.abc import Mapping

from verify.axes import turned
from verify.capture import Array
from verify.names.canonical import weight_axes

__all__ = ["KERAS", "ONNX", "placed"]

#: Keras variables, and those of a SavedModel: the model's own axes. A 1×1 convolution may stand
#: for a matrix.
KERAS: Mapping[tuple[str, int], str] = {
    ("kernel", 4): "HWIO",
    ("kernel", 2): "IO",
    ("bias", 1): "O",
    ("mean", 1): "C",
    ("mean", 4): "111C",
    ("assignment", 2): "DK",
    ("assignment", 4): "11DK",
    ("centers", 2): "DK",
    ("centers", 4): "11DK",
}

#: ONNX's Conv has filters O×I×H×W; MatMul takes its matrices as they are, with axes added
#: where it multiplies a batch; the centres are subtracted from K×D sums.
ONNX: Mapping[tuple[str, int], str] = {
    ("kernel", 4): "OIHW",
    ("kernel", 2): "IO",
    ("bias", 1): "O",
    ("bias", 4): "1O11",
    ("mean", 1): "C",
    ("mean", 4): "1C11",
    ("assignment", 2): "DK",
    ("assignment", 3): "1DK",
    ("centers", 2): "KD",
    ("centers", 3): "1KD",
    ("centers", 4): "11KD",
}


def placed(name: str, array: Array, table: Mapping[tuple[str, int], str]) -> Array:
    """A weight with its canonical axes; as it is where no row or no axes fit.

    A comparison with the source's weight of that name then says what is wrong with its shape.
    """
    stored, canonical = table.get((name.rpartition("/")[2], array.ndim)), weight_axes(name)
    if not stored or not canonical:
        return array
    try:
        return turned(array, stored, canonical)
    except ValueError:
        return array
