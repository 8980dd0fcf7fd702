"""What is made of a finished `model.onnx`: simplified, in float16, in int8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import formats
from converters.errors import ConversionError
from converters.formats import Format
from converters.writers.options import WriteOptions
from netvlad_keras.decoding import listed
from netvlad_keras.errors import RetrievalError
from netvlad_keras.preprocess import ImageError, load_image

__all__ = ["Derived", "images", "steps"]

#: Height and width of the images that calibrate, where the file does not say.
_SIZE = (240, 320)
_BUILT_IN = 12
_SIMPLIFY = Format(
    "--simplify", "model.onnx", "converters.writers.onnx_simplify", "simplify", ("onnxslim",)
)


@dataclass(frozen=True, slots=True)
class Derived:
    """What is asked for beside `model.onnx`.

    half         `model_fp16.onnx`.
    int8         `model_int8.onnx`; `calibration`: a folder of images, or None for made ones.
    simplify     `model.onnx` itself, by onnxslim.
    """

    half: bool = False
    int8: bool = False
    simplify: bool = False
    calibration: Path | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """For the manifest, which `verify` reads."""
        told = {"fp16": "rounded to float16", "int8": "quantised to int8"}
        return tuple(f"{told[name]}: {formats.DERIVED[name].filename}" for name in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the formats that are made, keys of `formats.DERIVED`."""
        asked = {"fp16": self.half, "int8": self.int8}
        return tuple(name for name, wanted in asked.items() if wanted)

    def check(self, asked: Sequence[str]) -> None:
        """Raise where there will be nothing to start from, or a library is missing."""
        if self != Derived() and "onnx" not in asked:
            raise ConversionError(
                "--half, --int8 and --simplify start from the ONNX file",
                advice="add onnx to --formats",
            )
        if self.simplify:
            formats.require(_SIMPLIFY)


def steps(model: Path, derived: Derived, options: WriteOptions) -> Iterator[str]:
    """Make them beside `model`; what is about to be done is yielded, in words.

    Raises `ConversionError` where one cannot be had, or is not good enough.
    """
    if derived.simplify:
        yield f"simplify {model.name}"
        formats.load(_SIMPLIFY).write(model, model)
    for name in derived.names:
        made = formats.DERIVED[name]
        path = model.with_name(made.filename)
        yield f"write {path.name}"
        writer = formats.load(made)
        if name == "int8":
            yield from writer.write(
                model, path, images(derived.calibration, options.layout, options.size)
            )
        else:
            writer.write(model, path)
        yield f"check {path.name}"
        import_module("converters.writers.onnx_check").check(path)


def images(
    folder: Path | None, layout: str = "nhwc", size: tuple[int, int] | None = None
) -> list[NDArray[Any]]:
    """Images to calibrate on, 1×H×W×3 (or 1×3×H×W) in float32, 0 to 255.

    Raises `ConversionError` for a folder with fewer than four.
    """
    height, width = size or _SIZE
    found: list[NDArray[Any]] = []
    if folder is None:
        found = [_scene(height, width, seed) for seed in range(_BUILT_IN)]
    else:
        try:
            found = [load_image(path, size=(height, width)) for path in listed([folder])]
        except (ImageError, RetrievalError) as error:
            raise ConversionError(f"{error}") from error
        if len(found) < 4:
            raise ConversionError(
                f"{folder}: {len(found)} images; at least four are needed",
                advice="half of them calibrate, all of them are compared; --int8 alone makes some",
            )
    batches = [image[None].astype(np.float32) for image in found]
    return [b.transpose(0, 3, 1, 2) for b in batches] if layout == "nchw" else batches


def _scene(height: int, width: int, seed: int) -> NDArray[Any]:
    """1/f noise with flat patches, 0 to 255: the contrasts of a photograph."""
    random = np.random.RandomState(seed)
    image = np.zeros((height, width, 3))
    step = 2
    while step < 2 * max(height, width):
        grid = random.uniform(-1, 1, (height // step + 1, width // step + 1, 3))
        image += grid.repeat(step, 0)[:height].repeat(step, 1)[:, :width]
        step *= 2
    image -= image.min()
    pixels: NDArray[Any] = np.round(255 * image / image.max())
    return pixels
