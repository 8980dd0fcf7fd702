"""To which sizes, and how, pictures are resized: two tables, which `resizings` multiplies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType

import numpy as np
from PIL import Image

from verify.capture import Array

__all__ = ["FILTERS", "SIZES", "Resizing", "resizings", "to_size"]

Size = tuple[int, int]
#: A picture (uint8 H×W×3) at a height and width.
Filter = Callable[[Array, Size], Array]
#: (name, words, what it does to a picture)
Resizing = tuple[str, str, Callable[[Array], Array]]

#: A picture is not enlarged to more than so many times its pixels.
_ENLARGED = 16


def to_size(pixels: Array, size: Size, how: Image.Resampling = Image.Resampling.BILINEAR) -> Array:
    """Resized by Pillow, whose filters are widened when shrinking."""
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], how))


def _two_pixels(pixels: Array, size: Size) -> Array:
    """Bilinear between the two nearest pixels of each axis, centres at halves: not widened."""
    values = pixels.astype(np.float32)
    for axis, length in enumerate(size):
        before = values.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * before / length - 0.5, 0, before - 1)
        first = np.floor(place).astype(int)
        part = (
            (place - first)
            .astype(np.float32)
            .reshape([-1 if axis == other else 1 for other in range(3)])
        )
        second = np.minimum(first + 1, before - 1)
        values = values.take(first, axis) * (1 - part) + values.take(second, axis) * part
    rounded: Array = np.rint(values).astype(np.uint8)
    return rounded


def _opencv(flag: str, pixels: Array, size: Size) -> Array:
    cv2 = import_module("cv2")
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=getattr(cv2, flag)))


def _filters() -> dict[str, tuple[str, Filter]]:
    found: dict[str, tuple[str, Filter]] = {
        "bilinear": ("bilinear as Pillow does it", to_size),
        "bicubic": ("bicubic (Pillow)", partial(to_size, how=Image.Resampling.BICUBIC)),
        "lanczos": ("Lanczos (Pillow)", partial(to_size, how=Image.Resampling.LANCZOS)),
        "nearest": ("nearest neighbour", partial(to_size, how=Image.Resampling.NEAREST)),
        "area": ("averaged over areas", partial(to_size, how=Image.Resampling.BOX)),
        "two-pixels": (
            "bilinear without antialiasing, as OpenCV's INTER_LINEAR, TensorFlow and PyTorch's "
            "interpolate do it",
            _two_pixels,
        ),
    }
    if find_spec("cv2"):
        for flag in ("INTER_LINEAR", "INTER_CUBIC", "INTER_AREA", "INTER_NEAREST"):
            name = f"opencv-{flag.removeprefix('INTER_').lower()}"
            found[name] = (f"by OpenCV, {flag}", partial(_opencv, flag))
    return found


FILTERS: Mapping[str, tuple[str, Filter]] = MappingProxyType(_filters())


def _longer(side: int) -> Callable[[int, int], Size]:
    return lambda height, width: _scaled(height, width, side, max(height, width))


def _shorter(side: int) -> Callable[[int, int], Size]:
    return lambda height, width: _scaled(height, width, side, min(height, width))


def _scaled(height: int, width: int, wanted: int, side: int) -> Size:
    return max(1, round(height * wanted / side)), max(1, round(width * wanted / side))


def _fixed(height: int, width: int) -> Callable[[int, int], Size]:
    return lambda *_: (height, width)


#: Words for a size -> that size, of a picture of this height and width.
SIZES: Mapping[str, Callable[[int, int], Size]] = MappingProxyType(
    {
        "224×224": _fixed(224, 224),
        "256×256": _fixed(256, 256),
        "512×512": _fixed(512, 512),
        "240×320": _fixed(240, 320),
        "320×240": _fixed(320, 240),
        "480×640": _fixed(480, 640),
        "640×480": _fixed(640, 480),
        "longer side 512": _longer(512),
        "longer side 640": _longer(640),
        "longer side 1024": _longer(1024),
        "shorter side 224": _shorter(224),
        "shorter side 256": _shorter(256),
        "shorter side 480": _shorter(480),
        "half its size": lambda height, width: (height // 2, width // 2),
        "its own size with height and width exchanged": lambda height, width: (width, height),
    }
)


def resizings(height: int, width: int, wanted: Size | None) -> Iterator[Resizing]:
    """Every resizing of a picture of this size, where `wanted` was to be made of it or nothing."""
    if wanted:
        yield "not-resized", "the picture not resized", lambda pixels: pixels
        words = f"{wanted[0]}×{wanted[1]}"
        for name, (how, function) in FILTERS.items():
            yield (
                f"{words}-{name}",
                f"resized to {words}, {how}",
                partial(_resized, function, wanted),
            )
        yield (
            f"{words}-exchanged",
            (f"resized to {wanted[1]}×{wanted[0]}: height and width exchanged"),
            partial(to_size, size=wanted[::-1]),
        )
        yield (
            f"{words}-padded",
            (f"its aspect ratio kept, black beside it up to {words}"),
            partial(_padded, size=wanted),
        )
        yield (
            f"{words}-cut",
            (f"its aspect ratio kept, {words} cut out of the middle"),
            partial(_cut, size=wanted),
        )
    for words, of in SIZES.items():
        size = of(height, width)
        if min(size) < 1 or size[0] * size[1] > _ENLARGED * height * width:
            continue
        for name, (how, function) in FILTERS.items():
            short = words.replace(" ", "-")
            yield f"{short}-{name}", f"resized to {words}, {how}", partial(_resized, function, size)
    if min(height, width) * 4 >= 256:
        words = "shorter side 256, then 224×224 cut out of the middle (torchvision's)"
        yield "256-cut-224", f"resized to {words}", _torchvision


def _resized(function: Filter, size: Size, pixels: Array) -> Array:
    return function(pixels, size)


def _torchvision(pixels: Array) -> Array:
    return _middle(to_size(pixels, SIZES["shorter side 256"](*pixels.shape[:2])), (224, 224))


def _cut(pixels: Array, size: Size) -> Array:
    height, width = pixels.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    return _middle(to_size(pixels, (round(height * scale), round(width * scale))), size)


def _padded(pixels: Array, size: Size) -> Array:
    height, width = pixels.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = to_size(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))
    whole = np.zeros((*size, pixels.shape[2]), pixels.dtype)
    top, left = ((a - b) // 2 for a, b in zip(size, inner.shape, strict=False))
    whole[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return whole


def _middle(pixels: Array, size: Size) -> Array:
    top, left = (max(0, (a - b) // 2) for a, b in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]
