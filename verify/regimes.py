"""The inputs on which artifacts are compared: made here, the same on every machine, or given.

Each is there for what it brings out. Nothing is drawn but from `numpy.random.RandomState`, whose
numbers NumPy promises never to change, and nothing is computed but sums, products, quotients and
square roots, which IEEE 754 rounds in one way only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from converters.errors import ConversionError, ReadError
from verify.capture import Array

__all__ = [
    *("ALL", "DEFAULT", "Contract"),
    *("given", "known", "photograph", "readable", "regimes"),
]


@dataclass(frozen=True, slots=True)
class Contract:
    """What a net takes.

    channels   of an image.
    low, high  the range of its values. 0 to 255 is given as uint8, all else as float32.
    smallest   height and width of which every layer still makes something.
    size       height and width of an ordinary image.
    """

    channels: int = 3
    low: float = 0.0
    high: float = 255.0
    smallest: tuple[int, int] = (16, 16)
    size: tuple[int, int] = (96, 128)

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ConversionError(f"an input range from {self.low} to {self.high} is empty")


def regimes(
    contract: Contract | None = None, names: Sequence[str] | None = None
) -> dict[str, Array]:
    """The inputs of `names` (`DEFAULT` if not said), each N×H×W×C.

    Raises `ConversionError` with every name that there is not.
    """
    contract = contract or Contract()
    chosen = DEFAULT if names is None else known(names)
    return {name: _scaled(_MAKERS[name](contract), contract) for name in chosen}


def known(names: Sequence[str]) -> tuple[str, ...]:
    """`names`, if there are such inputs. Raises `ConversionError` with every one there is not."""
    if unknown := [name for name in names if name not in _MAKERS]:
        raise ConversionError(
            f"no input is called {', '.join(map(repr, unknown))}",
            advice=f"There are {', '.join(ALL)}.",
        )
    return tuple(names)


def given(source: str | PathLike[str] | Array, contract: Contract | None = None) -> Array:
    """An image of one's own, 1×H×W×C: a file that Pillow reads, an `.npy`, or an array.

    A picture's values are spread over the contract's range; an array is taken as it is, of shape
    H×W×C or N×H×W×C. Raises `ReadError` for a file that is no image, `ConversionError` for an
    array or a size that does not fit.
    """
    contract = contract or Contract()
    images = source if isinstance(source, np.ndarray) else _read(Path(source), contract)
    images = images if images.ndim == 4 else images[None]
    if images.ndim != 4 or images.shape[3] != contract.channels or images.dtype.kind not in "uif":
        raise ConversionError(
            f"an input of {images.dtype} and shape {images.shape[1:]} does not fit",
            advice=f"Give H×W×{contract.channels} numbers.",
        )
    if any(side < least for side, least in zip(images.shape[1:3], contract.smallest, strict=True)):
        least = "×".join(map(str, contract.smallest))
        raise ConversionError(
            f"an input of {images.shape[1]}×{images.shape[2]} is too small",
            advice=f"The net takes {least} and more.",
        )
    return images if images.dtype == np.uint8 else images.astype(np.float32)


def readable(path: Path) -> None:
    """Raise `ReadError` for a file that `given` cannot read, whatever the net takes."""
    _read(path, Contract())


def photograph(height: int, width: int, channels: int = 3, seed: int = 1) -> Array:
    """A scene of things before one another in uneven light, uint8 1×H×W×C.

    Discs whose number falls with the cube of their radius cover each other ("dead leaves", Lee,
    Mumford and Huang, Int. J. Computer Vision 41, 2001), which gives the edges and the 1/f²
    power spectrum of photographs; each disc has a slope of brightness and some grain.
    """
    random = np.random.RandomState(seed)
    image = np.full((height, width, channels), 128.0)
    reach = max(height, width) / 2
    rows, columns = np.arange(height)[:, None], np.arange(width)
    for _ in range(_DISCS):
        radius = reach / np.sqrt(1 + random.uniform() * (_SPAN**2 - 1))  # reach / _SPAN to reach
        y, x = random.uniform(-radius, height + radius), random.uniform(-radius, width + radius)
        grey, tint = random.uniform(20, 235), random.uniform(-30, 30, channels)
        slope = random.uniform(-40, 40, 2) / radius
        top, bottom = max(0, int(y - radius)), min(height, int(y + radius) + 2)
        left, right = max(0, int(x - radius)), min(width, int(x + radius) + 2)
        down, across = rows[top:bottom] - y, columns[left:right] - x
        light = grey + slope[0] * down + slope[1] * across
        inside = down * down + across * across <= radius * radius
        part = image[top:bottom, left:right]
        part[inside] = (light[..., None] + tint)[inside]
    image += random.uniform(-4, 4, image.shape)
    pixels: Array = np.clip(image, 0, 255).astype(np.uint8)[None]
    return pixels


#: Enough to hide the ground nearly everywhere; the largest disc's radius over the smallest's.
_DISCS, _SPAN = 1000, 40.0


def _noise(contract: Contract) -> Array:
    """1/f noise: as much contrast in every octave, drawn linearly between its grid's points."""
    random = np.random.RandomState(2)
    height, width = _size(contract)
    total = np.zeros((height, width, contract.channels))
    step = 1
    while step < 2 * max(height, width):
        grid = (height // step + 2, width // step + 2, contract.channels)
        values = random.uniform(-1, 1, grid)
        for axis, size in enumerate((height, width)):
            before, part = np.arange(size) // step, (np.arange(size) % step) / step
            part = part.reshape([-1 if axis == other else 1 for other in range(3)])
            first, second = values.take(before, axis), values.take(before + 1, axis)
            values = first + (second - first) * part
        total += values
        step *= 2
    return np.clip(128 + 48 * total, 0, 255).astype(np.uint8)[None]


def _constant(value: int) -> Callable[[Contract], Array]:
    def make(contract: Contract) -> Array:
        return np.full((1, *_size(contract), contract.channels), value, np.uint8)

    return make


def _drawn(values: Sequence[int], seed: int) -> Callable[[Contract], Array]:
    """Each value one of `values`, all as probable."""

    def make(contract: Contract) -> Array:
        shape = (1, *_size(contract), contract.channels)
        random = np.random.RandomState(seed)
        return np.asarray(values, np.uint8)[random.randint(0, len(values), shape)]

    return make


def _smallest(contract: Contract) -> Array:
    return photograph(*contract.smallest, contract.channels, seed=3)


def _odd(contract: Contract) -> Array:
    """Sides that stay odd when they are halved three times: whether a pool's last window may
    reach beyond the end shows at each pool.
    """
    height, width = (side - side % 16 + 15 for side in _size(contract))
    return photograph(height, width, contract.channels, seed=4)


def _batch(count: int) -> Callable[[Contract], Array]:
    """Images that differ, so that one cannot stand for another."""

    def make(contract: Contract) -> Array:
        size = _size(contract)
        seeds = range(5, 5 + count)
        return np.concatenate([photograph(*size, contract.channels, seed) for seed in seeds])

    return make


_MAKERS: Mapping[str, Callable[[Contract], Array]] = MappingProxyType(
    {
        # what the net was made for
        "photograph": lambda contract: photograph(*_size(contract), contract.channels),
        # nothing but the mean and the biases; borders stand out
        "black": _constant(0),
        # sides that pooling does not divide
        "odd": _odd,
        # contrast at every scale
        "noise": _noise,
        "white": _constant(255),
        "constant": _constant(128),
        # a night: nearly nothing beside the mean
        "near_black": _drawn(range(4), seed=8),
        # every value at an end of its range: the largest activations
        "saturated": _drawn((0, 255), seed=9),
        # one position is left at the last layer
        "smallest": _smallest,
        "batch": _batch(2),
        "batch_of_3": _batch(3),
    }
)

ALL: tuple[str, ...] = tuple(_MAKERS)
DEFAULT: tuple[str, ...] = ("photograph", "black", "odd")


def _size(contract: Contract) -> tuple[int, int]:
    height, width = map(max, contract.size, contract.smallest)
    return height, width


def _scaled(images: Array, contract: Contract) -> Array:
    if (contract.low, contract.high) == (0.0, 255.0):
        return images
    span = contract.high - contract.low
    return (contract.low + images * (span / 255)).astype(np.float32)


def _read(path: Path, contract: Contract) -> Array:
    if path.suffix == ".npy":
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise ReadError(path, f"not an array: {error}") from error
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if contract.channels not in modes:
        raise ReadError(path, f"a picture has no {contract.channels} channels", advice="Give .npy.")
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert(modes[contract.channels]))
    except Exception as error:  # on broken bytes Pillow's decoders raise whatever they meet
        raise ReadError(path, f"not an image that Pillow reads: {error}") from error
    return _scaled(pixels.reshape(*pixels.shape[:2], contract.channels), contract)
