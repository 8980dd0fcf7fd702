"""How each format lays out a weight, by the weight's name within its layer and its rank."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converters.errors import MappingError
from verify.axes import turned
from verify.capture import Array
from verify.names.canonical import Place, canonical_weight, weight_axes

__all__ = ["KERAS", "ONNX", "by_name", "called_alike", "placed"]

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
    **{(part, 4): "1C11" for part in ("multiplier", "offset", "sigma")},
}


def by_name(
    stored: Mapping[str, Array], table: Mapping[tuple[str, int], str], names: Mapping[str, Place]
) -> dict[str, Array]:
    """Weights by canonical name and with canonical axes, from those of an artifact by its own.

    `names` (canonical name -> place) is asked first, then the names themselves and the format's
    `table`. What fits no axes stays as it is: a comparison with the source's weight of that name
    says what is wrong with its shape. Raises `MappingError` where two tensors claim one name.
    """
    given = {place.tensor: (name, place) for name, place in names.items()}
    found: dict[str, Array] = {}
    owners: dict[str, str] = {}
    for own, array in stored.items():
        name, place = given.get(own, (canonical_weight(own), Place(own)))
        if name in found:
            raise MappingError(misfits={name: f"both {owners[name]} and {own} are it"})
        axes = place.axes or table.get((name.rpartition("/")[2], array.ndim), "")
        found[name] = placed(array if place.sign == 1 else np.negative(array), axes, name)
        owners[name] = own
    return found


def called_alike(name: str) -> bool:
    """Whether a tensor has a weight's name, `conv1/bias`."""
    return bool(weight_axes(canonical_weight(name)))


def placed(array: Array, axes: str, name: str) -> Array:
    """`array`, which lies as `axes`, with the axes of the weight `name`; as it is if none fit."""
    canonical = weight_axes(name)
    if not axes or not canonical:
        return array
    try:
        return turned(array, axes, canonical)
    except ValueError:
        return array
