"""What artifacts are compared on: inputs that are made, and pictures of one's own."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Checkpoint
from converters.errors import ConversionError
from verify import inputs_file, regimes
from verify.capture import Array, Images
from verify.images import listed
from verify.oracle import execute
from verify.regimes import Contract
from verify.sizes import FOLLOWED, smallest_size, takes

__all__ = ["Inputs", "channels", "contract", "value_range"]

#: Inputs whose size is what they are for: no net of a fixed size takes them.
_SIZED = ("odd", "smallest")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was asked for.

    names     of the inputs that are made, see `regimes`; `chosen` if they were named one by one.
    pictures  name -> file, to compare on as well.
    range     of an input's values; None: as the net's contract has it.
    kept      from an earlier report, in place of those that are made; see `inputs_file`.
    ranked    images to be found, and images to find them by, for `gate`.
    """

    names: tuple[str, ...] = regimes.DEFAULT
    chosen: bool = False
    pictures: Mapping[str, Path] = field(default_factory=dict)
    range: tuple[float, float] | None = None
    kept: Mapping[str, Array] = field(default_factory=dict)
    ranked: tuple[tuple[Path, ...], tuple[Path, ...]] | None = None

    @classmethod
    def asked(cls, options: argparse.Namespace) -> Inputs:
        """From the command line.

        Raises `ConversionError` for inputs that there are not and for a range that is none,
        `ReadError` for a picture or a file of inputs that cannot be read.
        """
        names = regimes.ALL if options.all_inputs else regimes.DEFAULT
        kept: dict[str, Array] = {}
        if options.inputs and options.inputs.endswith(".npz"):
            names, kept = (), inputs_file.read(Path(options.inputs))
        elif options.inputs:
            names = regimes.known(options.inputs.split(","))
        spread = value_range(options.input_range) if options.input_range else None
        pictures: dict[str, Path] = {}
        for file in listed(options.images) if options.images else ():
            pictures[str(file.relative_to(options.images))] = file
        if options.image:
            taken = options.image.name in pictures
            pictures[str(options.image) if taken else options.image.name] = options.image
        for file in pictures.values():
            regimes.readable(file)
        return cls(names, bool(options.inputs), pictures, spread, kept, _ranked(options))

    def only(self, picture: Path) -> Inputs:
        """Of these, one picture alone, under the name that it has here."""
        *_, name = (name for name, file in self.pictures.items() if file == picture)
        return replace(self, names=(), pictures={name: picture}, kept={})

    def made(
        self,
        manifest: Mapping[str, Any],
        checkpoint: Checkpoint,
        small: Collection[str] = (),
    ) -> dict[str, Images]:
        """Every input by name, N×H×W×C, for the net that `manifest` (may be empty) describes.

        Of a net of several inputs each is given by its own name: the pictures to the first, what
        is made to all, those of `small` as a single pixel.

        Raises `ConversionError` for a picture of a size that the net does not take.
        """
        accepted = contract(manifest, checkpoint, self.range)
        fixed = size = manifest.get("onnx", {}).get("size")
        fixed = fixed or not takes(checkpoint, accepted.size[0] + 1, accepted.size[1] + 3)
        names = [n for n in self.names if self.chosen or not fixed or n not in _SIZED]
        found = regimes.regimes(accepted, names)
        for name, file in self.pictures.items():
            found[name] = regimes.given(file, accepted)
            if size and found[name].shape[1:3] != accepted.size:
                raise ConversionError(
                    f"{file}: {'×'.join(map(str, found[name].shape[1:3]))} pixels, but the ONNX "
                    f"file was made for {'×'.join(map(str, accepted.size))}",
                    advice="Resize it first.",
                )
        batch = manifest.get("onnx", {}).get("batch")
        if batch:
            found = {n: i if len(i) == batch else i[:1].repeat(batch, 0) for n, i in found.items()}
        (first, _), *others = entries(manifest, checkpoint)
        every: dict[str, Images] = dict(found)
        if others:
            every = {
                name: {first: images, **{n: _beside(images, c, n in small) for n, c in others}}
                for name, images in found.items()
            }
        for name, images in inputs_file.grouped(
            self.kept, [first, *(n for n, _ in others)]
        ).items():
            regimes.given(images if isinstance(images, np.ndarray) else images[first], accepted)
            every[name] = images
        if self.chosen or all(layer.kind in FOLLOWED for layer in checkpoint.layers):
            return every
        # What a custom kind takes only it knows: of two sizes, one that it may refuse.
        return {n: i for n, i in every.items() if n not in _SIZED or _runs(checkpoint, i)}


def _ranked(options: argparse.Namespace) -> tuple[tuple[Path, ...], tuple[Path, ...]] | None:
    folders = [folder for folder in (options.database, options.queries) if folder]
    if len(folders) == 1:
        raise ConversionError(
            "--database and --queries go together",
            advice="Name one folder for both to find each image among the others.",
        )
    return (tuple(listed(folders[0])), tuple(listed(folders[1]))) if folders else None


def _runs(checkpoint: Checkpoint, images: Images) -> bool:
    try:
        return bool([name for name, _ in execute(checkpoint, images)])
    except ConversionError:
        return False


def entries(manifest: Mapping[str, Any], checkpoint: Checkpoint) -> list[tuple[str, int]]:
    """(name, channels) of every input, in the net's order."""
    stated = {each["name"]: int(each["shape"][-1]) for each in manifest.get("inputs", ())}
    first = input_names(checkpoint)
    if len(first) == 1 == len(stated):
        return list(stated.items())
    return [(name, stated.get(name) or channels(checkpoint)) for name in first]


def input_names(checkpoint: Checkpoint) -> list[str]:
    """What the layers read and no layer makes."""
    made = {layer.name for layer in checkpoint.layers}
    read = dict.fromkeys(name for layer in checkpoint.layers for name in layer.inputs)
    return [name for name in read if name not in made]


def _beside(images: Array, count: int, small: bool) -> Array:
    """Another input for these images: other values, of as many images and (or not) their size."""
    other = images[:, ::-1, ::-1, :1].repeat(count, axis=3)
    return np.ascontiguousarray(other[:, :1, :1] if small else other)


def contract(
    manifest: Mapping[str, Any], checkpoint: Checkpoint, spread: tuple[float, float] | None = None
) -> Contract:
    """What a net takes, by its manifest; without one by its source, values from 0 to 255."""
    stated: Mapping[str, Any] = next(iter(manifest.get("inputs", ())), {})
    low, high = spread or stated.get("range", (0.0, 255.0))
    shape = stated.get("shape")
    least = smallest_size(checkpoint) if checkpoint.layers else (23, 23)
    smallest = (
        int(stated.get("minimum_height", least[0])),
        int(stated.get("minimum_width", least[1])),
    )
    height, width = manifest.get("onnx", {}).get("size") or Contract().size
    if not takes(checkpoint, height, width):  # such as a classifier's
        height, width = smallest
    return Contract(
        channels=int(shape[-1]) if shape else channels(checkpoint),
        low=float(low),
        high=float(high),
        smallest=smallest,
        size=(int(height), int(width)),
    )


def channels(checkpoint: Checkpoint) -> int:
    """Of an image: as many as the mean has, else as the first convolution reads."""
    if MEAN in checkpoint.tensors:
        return int(checkpoint.tensors[MEAN].shape[-1])
    kernels = (layer.params[0] for layer in checkpoint.layers if layer.kind == "conv")
    first = next(kernels, None)
    return int(checkpoint.tensors[first].shape[2]) if first else Contract().channels


def value_range(text: str) -> tuple[float, float]:
    """`A,B` as numbers. Raises `ConversionError` for anything but A smaller than B."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not low < high or math.isinf(high - low):
        raise ConversionError(
            f"{text!r} is not a range A,B of numbers, the smaller first", advice="such as 0,1"
        )
    return low, high
