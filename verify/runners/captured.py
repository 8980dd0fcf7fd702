"""Outputs that another program produced, beside the artifacts: MATLAB, TensorRT, C++, PyTorch.

There is nothing to run here: a capture has no weights, and no layer of it can be replayed alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.checkpoint import Checkpoint
from converters.errors import ConversionError, ReadError
from verify import oracle
from verify.capture import RECORDED, Array, Images
from verify.names.canonical import canonical_layer
from verify.runners import captured_file

__all__ = ["Captured", "open", "shapes"]

Shapes = Mapping[str, tuple[int, ...]]
#: The last layer's output by what everybody calls it; `""`: a file of one array.
_LAST = ("descriptor", "")


@dataclass(slots=True)
class Captured:
    """A `Runner` that only shows what was kept of one image.

    layers  those of the source that the file holds, in the source's order.
    arrays  canonical name -> output as a capture has it; last what the source has no layer for.
    """

    path: Path
    layers: tuple[str, ...]
    arrays: Mapping[str, Array]
    notes: tuple[str, ...]
    kind: str = field(default=RECORDED, init=False)

    def run(self, images: Images) -> Iterator[tuple[str, Array]]:
        """What was kept; the images are those it was made from."""
        yield from self.arrays.items()

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        """Raises `ConversionError`."""
        raise ConversionError(f"{self.path}: a capture cannot be run")

    def deployed(self, images: Images) -> Mapping[str, Array]:
        """The last of the layers."""
        return {name: self.arrays[name] for name in self.layers[-1:]}

    def weights(self) -> Mapping[str, Array]:
        """None."""
        return {}


def shapes(checkpoint: Checkpoint, images: Images) -> Shapes:
    """Layer -> shape of its output on these images, in order, `input` first."""
    return {name: y.shape for name, y in oracle.execute(checkpoint, images, np.float32)}


def open(path: Path, expected: Shapes) -> Captured:
    """Open a file of outputs, see `captured_file.read`, for a source with these `shapes`.

    Arrays go by the layers' names, with or without a number before (`031|preL2`), the last
    layer's also by `descriptor`; the axes are N×H×W×C, N×C×H×W or MatConvNet's H×W×C×N, told by
    the shape. Raises `ReadError` where nothing in it is a layer of the source, two arrays are the
    same layer, or an array fits in two ways.
    """
    found = _named(path, captured_file.read(path), expected)
    layers = tuple(layer for layer in expected if layer in found)
    if not layers:
        raise ReadError(
            path,
            f"holds none of the source's layers; it has {', '.join(map(repr, found)) or 'nothing'}",
            advice=f"Call an array as the source does: {', '.join(expected)}; "
            "or descriptor for the last.",
        )
    laid = _laid(path, {layer: found.pop(layer) for layer in layers}, expected)
    missing = [layer for layer in expected if layer not in laid]
    notes: tuple[str, ...] = (
        f"recorded by another program: {len(layers)} of {len(expected)} layers, no weights",
    )
    if missing:
        notes += (f"not captured: {', '.join(missing)}",)
    return Captured(path, layers, {**laid, **found}, notes)


def _named(path: Path, arrays: Mapping[str, Array], expected: Shapes) -> dict[str, Array]:
    found: dict[str, Array] = {}
    last = list(expected)[-1]
    for own, values in arrays.items():
        name = own if own in expected else re.sub(r"^\d+\|", "", own)
        if name not in expected:
            name = last if name in _LAST else canonical_layer(name)
        if name in found:
            raise ReadError(path, f"holds two arrays for {name}", advice="Leave one of them out.")
        found[name] = values
    return found


def _laid(path: Path, arrays: Mapping[str, Array], expected: Shapes) -> dict[str, Array]:
    """Every array with the axes of a capture.

    One that fits in several ways lies as the others of its file do; what fits in none stays as it
    is, so that its shape is told as a difference.
    """
    fits = {layer: _fits(values, expected[layer]) for layer, values in arrays.items()}
    agreed = [set(ways[0][0]) for ways in fits.values() if len(ways) == 1 and ways[0][0]]
    common = set.intersection(*agreed) if agreed else set()
    laid = {}
    for layer, values in arrays.items():
        ways = fits[layer]
        if len(ways) > 1:
            names = [" and ".join(sorted(ways)) for ways, _ in ways]
            ways = [way for way in ways if common & way[0]]
            if len(ways) != 1:
                raise ReadError(
                    path,
                    f"{layer} has shape {values.shape}, which can be {' or '.join(names)}",
                    advice="Add a layer that can only be one of them, or use an image of another "
                    "size.",
                )
        laid[layer] = ways[0][1] if ways else values
    return laid


def _fits(values: Array, shape: tuple[int, ...]) -> list[tuple[set[str], Array]]:
    """The ways to read an array as one of `shape` that differ in what they give, with their names.

    A vector has the names of no layout: it says nothing about the others.
    """
    found: list[tuple[set[str], Array]] = []
    if values.dtype.kind not in "fiub":
        return found
    for name, array in _vectors(values, shape) if len(shape) == 2 else _maps(values):
        if array.shape != shape:
            continue
        same = next((names for names, other in found if np.array_equal(array, other)), None)
        if same is None:
            found.append(({name} - {""}, array))
        else:
            same |= {name} - {""}
    return found


def _vectors(values: Array, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """As N×D, whatever axes of size 1 are between, before and behind."""
    if values.size == shape[0] * shape[1]:
        flat = values.squeeze()
        if 1 in shape and flat.ndim <= 1:
            yield "", flat.reshape(shape)
        elif flat.ndim == 2:
            yield "", flat
            yield "", flat.T


def _maps(values: Array) -> Iterator[tuple[str, Array]]:
    """As N×H×W×C; N may be missing where it is 1, and MATLAB drops last axes of size 1."""
    if values.ndim in (3, 4):
        batch = values if values.ndim == 4 else values[None]
        yield "N×H×W×C", batch
        yield "N×C×H×W", batch.transpose(0, 2, 3, 1)
    if values.ndim == 3:  # vlad:core is N×1×K×D
        yield "N×H×W×C", values[:, None]
    if 2 <= values.ndim <= 4:
        matlab = values.reshape(values.shape + (1,) * (4 - values.ndim))
        yield "H×W×C×N", matlab.transpose(3, 0, 1, 2)
