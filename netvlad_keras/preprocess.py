"""From an image file, a Pillow image or an array to what the model takes: RGB, 0 to 255.

The original (Relja Arandjelović's netvlad: `serialAllFeats.m`,
`computeRepresentation.m`) reads JPEG files with MatConvNet's `vl_imreadjpeg`,
which is libjpeg's decoder: RGB in 0 to 255, no scaling, no resizing, grey
images repeated over the three channels. For JPEG files that is what happens
here. The mean is subtracted inside the model, not here. What the original
leaves open, or does otherwise:

- Orientation. `vl_imreadjpeg` does not look at EXIF. Here a photograph is
  turned upright; `upright=False` takes the pixels of a JPEG as they are stored.
- Alpha is dropped and the colours stay as they are stored, under a transparent
  pixel too, as in MATLAB's `imread`. Nothing is composited, since no background
  is right for every image: whoever wants one composites before.
- 16-bit images keep the high byte of each value; Pillow does so for 16-bit
  colour itself. (The original warns against `imread` here: it gives 0 to 65535.)
- CMYK is converted by Pillow's formula and ICC profiles are not applied.
- Of a file with several frames or pages the first is taken.
- Resizing, only if asked for, is Pillow's bilinear filter, widened when
  shrinking: the default filter of `vl_imreadjpeg`'s `Resize`, with which the
  original's `trainWeakly.m` jitters the scale (`shorter_side` here). Sizes are
  those of the upright image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from netvlad_keras.errors import NetVLADError

__all__ = ["ImageError", "Pixels", "Source", "load_image", "load_images"]

Source = str | os.PathLike[str] | Image.Image | npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

# Modes that Pillow does not bring to RGB directly, or only with a warning.
_BY_WAY_OF = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}

_REASONS: dict[type[Exception], str] = {
    UnidentifiedImageError: "not an image file that Pillow can identify",
    Image.DecompressionBombError: "more pixels than Pillow agrees to decode "
    "(raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file)",
}


class ImageError(NetVLADError):
    """An image that cannot be read, or whose range or shape cannot be told.

    `source` names it (the path, or a description of the array or Pillow image)
    and `reason` says what is wrong.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(source, reason)

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


def load_image(
    source: Source,
    *,
    size: tuple[int, int] | None = None,
    shorter_side: int | None = None,
    longer_side: int | None = None,
    upright: bool = True,
) -> Pixels:
    """One image as the model takes it: uint8 [height, width, 3], RGB, 0 to 255.

    `source` is a path, a Pillow image, or an array in RGB order of H×W, H×W×1,
    H×W×3 or H×W×4 (the fourth is alpha): uint8, or float in 0 to 255, rounded
    to the nearest. An array is never rescaled by guess: a float array whose
    maximum lies in (0, 1] was most likely divided by 255, and is refused. (BGR
    order, which OpenCV reads, cannot be told from RGB: pass `image[..., ::-1]`.)

    At most one of `size` = (height, width), `shorter_side` and `longer_side`
    (pixels; the other side follows, rounded to the nearest) may be given;
    without them nothing is resized. `upright=False` leaves EXIF aside.

    Raises ImageError for an image that cannot be used, ValueError for sizes
    that make no sense, TypeError for a source of another kind.
    """
    _check_sizes(size, shorter_side, longer_side)
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, _name(source))
    elif isinstance(source, str | os.PathLike | Image.Image):
        pixels = _from_picture(source, upright)
    else:
        raise TypeError(f"a path, a Pillow image or an array is needed, not {type(source)}")
    height, width, _ = pixels.shape
    for side, fixed in ((min(height, width), shorter_side), (max(height, width), longer_side)):
        if fixed is not None:
            size = (_scaled(height, fixed, side), _scaled(width, fixed, side))
    if size is None or size == (height, width):
        return pixels
    target = (size[1], size[0])
    try:
        return np.array(Image.fromarray(pixels).resize(target, Image.Resampling.BILINEAR))
    except (OverflowError, ValueError) as error:  # Pillow counts pixels in 32 bits
        raise ImageError(_name(source), f"cannot be resized to {size[0]}×{size[1]}") from error


def load_images(
    sources: Iterable[Source],
    *,
    size: tuple[int, int] | None = None,
    shorter_side: int | None = None,
    longer_side: int | None = None,
    upright: bool = True,
) -> Pixels:
    """A batch, uint8 [batch, height, width, 3]: `load_image` of each, stacked.

    All must come out at one size, else ImageError names the first that does
    not; `size` makes it so. The other errors are those of `load_image`, and an
    empty batch is a ValueError.
    """
    if isinstance(sources, str | os.PathLike | Image.Image):
        raise TypeError("several sources are needed; for a single one there is load_image")
    batch: list[Pixels] = []
    for source in sources:
        pixels = load_image(
            source,
            size=size,
            shorter_side=shorter_side,
            longer_side=longer_side,
            upright=upright,
        )
        if batch and pixels.shape != batch[0].shape:
            here, first = ("{}×{}".format(*each.shape[:2]) for each in (pixels, batch[0]))
            raise ImageError(
                _name(source),
                f"{here}, but the first of the batch is {first}: pass size=(height, width)",
            )
        batch.append(pixels)
    if not batch:
        raise ValueError("the batch is empty")
    return np.stack(batch)


def _check_sizes(size: tuple[int, int] | None, *sides: int | None) -> None:
    lengths = [side for side in (*(size or ()), *sides) if side is not None]
    given = [each for each in (size, *sides) if each is not None]
    if len(given) > 1:
        raise ValueError("give one of size, shorter_side and longer_side")
    if any(length < 1 for length in lengths) or (size is not None and len(size) != 2):
        raise ValueError(f"a size in whole pixels, at least 1, is needed, not {given[0]}")


def _scaled(length: int, fixed: int, side: int) -> int:
    """`length` × `fixed` / `side`, rounded half up, at least one pixel."""
    return max(1, (2 * length * fixed + side) // (2 * side))


def _name(source: Source) -> str:
    if isinstance(source, np.ndarray):
        return f"{source.dtype} array of shape {source.shape}"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or f"Pillow image of mode {source.mode}")
    return os.fspath(source)


def _from_picture(source: str | os.PathLike[str] | Image.Image, upright: bool) -> Pixels:
    name = _name(source)
    try:
        with _opened(source) as image:
            # Pillow reads a 16-bit PGM as 32-bit integers, in 0 to 65535.
            deep = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
            turned = ImageOps.exif_transpose(image) if upright else image
            return _rgb(turned, deep, name)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # on broken bytes Pillow's decoders raise whatever they meet
        raise ImageError(name, _reason(error)) from error


def _opened(source: str | os.PathLike[str] | Image.Image) -> AbstractContextManager[Image.Image]:
    return nullcontext(source) if isinstance(source, Image.Image) else Image.open(source)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return _REASONS.get(type(error), f"broken, truncated or of an unknown kind: {error}")


def _rgb(image: Image.Image, deep: bool, name: str) -> Pixels:
    if deep:
        return _from_array((np.asarray(image) >> 8).astype(np.uint8), name)
    if image.mode == "F":
        return _from_array(np.asarray(image), name)
    if image.mode == "I":
        raise ImageError(name, "32-bit integers, whose range is unknown: scale it to 8 bits first")
    plain = image.convert(_BY_WAY_OF.get(image.mode, "RGB")).convert("RGB")
    return _from_array(np.asarray(plain), name)


def _from_array(array: npt.NDArray[Any], name: str) -> Pixels:
    planes = array[..., None] if array.ndim == 2 else array
    if planes.ndim != 3 or planes.shape[2] not in (1, 3, 4) or planes.size == 0:
        raise ImageError(name, "H×W, H×W×1, H×W×3 or H×W×4 is needed, with pixels in it")
    planes = planes[..., :3]
    if planes.dtype != np.uint8:
        planes = _rounded(planes, name)
    return np.array(np.broadcast_to(planes, (*planes.shape[:2], 3)), order="C")


def _rounded(planes: npt.NDArray[Any], name: str) -> Pixels:
    if planes.dtype.kind != "f":
        raise ImageError(name, "uint8, or float in 0 to 255, is needed: scale and convert it first")
    if not np.isfinite(planes).all():
        raise ImageError(name, "holds NaN or infinity")
    low, high = float(planes.min()), float(planes.max())
    if low < 0 or high > 255:
        raise ImageError(name, f"values from {low:g} to {high:g}; 0 to 255 is needed")
    if 0 < high <= 1:
        raise ImageError(
            name, f"values up to {high:g}, most likely scaled to 0..1: multiply by 255"
        )
    pixels: Pixels = np.rint(planes).astype(np.uint8)
    return pixels
