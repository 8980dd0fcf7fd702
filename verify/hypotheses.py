"""What people get wrong between a picture and its descriptor: a table of hypotheses.

A hypothesis changes one step on the way, in the order of `Stage`; two of different steps can be
true together. The ranges, orders and constants are those of the libraries that people use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from netvlad_keras.preprocess import load_image
from verify import decoders
from verify.capture import Array
from verify.head import Head, flat
from verify.resizing import resizings

__all__ = ["AFTER_MEAN", "Hypothesis", "Stage", "Values", "fitted", "hypotheses"]


class Stage(IntEnum):
    """A step between the picture and the descriptor, and what a hypothesis's change takes there.

    READ    the path -> uint8 H×W×3, RGB.
    TURNED, SIZED, COLOUR  such pixels -> pixels.
    VALUES  float32 pixels and the mean (3 numbers) -> `Values`.
    LAYOUT  what goes into the net and the mean -> the same.
    INSIDE  a `Head` -> the descriptor, 1×D.
    RESULT  a vector and the length of theirs -> a vector.
    """

    READ = 0
    TURNED = 1
    SIZED = 2
    COLOUR = 3
    VALUES = 4
    LAYOUT = 5
    INSIDE = 6
    RESULT = 7


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers for the net; `final`: the net's own mean is not subtracted from them any more."""

    pixels: Array
    final: bool = False


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One thing that may be wrong; `words` say what they did, `needs` is a layer without which
    there is no such mistake.
    """

    name: str
    words: str
    stage: Stage
    change: Callable[..., Any]
    needs: str = ""


#: How hypotheses on the layout end which come behind the net's own mean.
AFTER_MEAN = "-after-mean"
#: Of the pictures of ImageNet, RGB in 0 to 1 (torchvision.transforms).
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def hypotheses(
    picture: tuple[int, int], wanted: tuple[int, int] | None, *, mean: bool
) -> Iterator[Hypothesis]:
    """The table for a picture of this height and width.

    wanted  what it is to be resized to, if it is; `mean`: the net subtracts one.
    """
    yield from _READ
    yield from _TURNED
    for name, words, change in resizings(*picture, wanted):
        yield Hypothesis(name, words, Stage.SIZED, change)
    yield from _COLOUR
    yield from (row for row in _VALUES if mean or row.name not in _OF_A_MEAN)
    yield from _LAYOUT
    yield from _INSIDE
    yield from _RESULT


_READ = (
    Hypothesis("exif", "the EXIF orientation not applied", Stage.READ,
               lambda path: load_image(path, upright=False)),
    Hypothesis("draft-2", "the JPEG decoded at half its size (Pillow's draft)", Stage.READ,
               partial(decoders.draft, 2)),
    Hypothesis("draft-4", "the JPEG decoded at a quarter of its size (Pillow's draft)", Stage.READ,
               partial(decoders.draft, 4)),
    Hypothesis("ycbcr", "the JPEG's colours converted by another formula than libjpeg's",
               Stage.READ, decoders.ycbcr),
    Hypothesis("jpeg-75", "the picture saved as a JPEG again, quality 75 (Pillow's default)",
               Stage.READ, partial(decoders.saved_again, 75)),
    Hypothesis("jpeg-95", "the picture saved as a JPEG again, quality 95 (OpenCV's default)",
               Stage.READ, partial(decoders.saved_again, 95)),
    *([Hypothesis("opencv-read", "the picture decoded by OpenCV", Stage.READ, decoders.opencv)]
      if find_spec("cv2") else []),
)  # fmt: skip

_TURNED = (
    Hypothesis("turned-90", "the picture turned left by 90°", Stage.TURNED, np.rot90),
    Hypothesis("turned-180", "the picture turned by 180°", Stage.TURNED,
               lambda pixels: pixels[::-1, ::-1]),
    Hypothesis("turned-270", "the picture turned right by 90°", Stage.TURNED,
               lambda pixels: np.rot90(pixels, 3)),
    Hypothesis("mirrored", "the picture mirrored, left for right", Stage.TURNED,
               lambda pixels: pixels[:, ::-1]),
    Hypothesis("upside-down", "the picture mirrored, top for bottom (OpenGL)", Stage.TURNED,
               lambda pixels: pixels[::-1]),
    Hypothesis("transposed", "rows and columns exchanged (MATLAB's order)", Stage.TURNED,
               lambda pixels: pixels.transpose(1, 0, 2)),
)  # fmt: skip


def _grey(pixels: Array) -> Array:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


_COLOUR = (
    Hypothesis("bgr", "the channels in BGR order, as OpenCV reads them", Stage.COLOUR,
               lambda pixels: pixels[..., ::-1]),
    Hypothesis("grey", "the picture made grey", Stage.COLOUR, _grey),
)  # fmt: skip


def _wrapped(pixels: Array, mean: Array) -> Values:
    """uint8 has no numbers below 0: 3 - 5 is 254."""
    small = np.rint(pixels).astype(np.uint8) - np.rint(mean).astype(np.uint8)
    return Values(small.astype(np.float32), final=True)


_OF_A_MEAN = ("mean-twice", "mean-never", "mean-uint8", "mean-clipped", "mean-bgr", "mean-255")
_VALUES = (
    Hypothesis("mean-twice", "the mean subtracted twice: before the net, which does it itself",
               Stage.VALUES, lambda x, mean: Values(x - mean)),
    Hypothesis("mean-never", "the mean never subtracted", Stage.VALUES,
               lambda x, mean: Values(x, final=True)),
    Hypothesis("mean-uint8", "the mean subtracted in uint8, which wraps around below 0",
               Stage.VALUES, _wrapped),
    Hypothesis("mean-clipped", "the mean subtracted with everything below 0 made 0 "
               "(OpenCV's subtract of uint8)", Stage.VALUES,
               lambda x, mean: Values(np.maximum(x - mean, 0), final=True)),
    Hypothesis("mean-bgr", "the mean subtracted in BGR order from a picture in RGB", Stage.VALUES,
               lambda x, mean: Values(x - mean[::-1], final=True)),
    Hypothesis("mean-255", "the mean subtracted, then divided by 255", Stage.VALUES,
               lambda x, mean: Values((x - mean) / np.float32(255), final=True)),
    Hypothesis("mean-imagenet", "ImageNet's mean (123.7, 116.3, 103.5) in place of the net's own",
               Stage.VALUES, lambda x, mean: Values(x - 255 * _MEAN, final=True)),
    Hypothesis("255", "the picture divided by 255, then the net's mean subtracted", Stage.VALUES,
               lambda x, mean: Values(x / np.float32(255))),
    Hypothesis("255-never", "the picture divided by 255, the mean never subtracted", Stage.VALUES,
               lambda x, mean: Values(x / np.float32(255), final=True)),
    Hypothesis("imagenet", "ImageNet's mean and std (torchvision), then the net's mean subtracted "
               "too", Stage.VALUES, lambda x, mean: Values((x / np.float32(255) - _MEAN) / _STD)),
    Hypothesis("imagenet-instead", "ImageNet's mean and std (torchvision) in place of the net's "
               "mean", Stage.VALUES,
               lambda x, mean: Values((x / np.float32(255) - _MEAN) / _STD, final=True)),
    Hypothesis("minus-1-to-1", "scaled to -1 to 1, then the net's mean subtracted", Stage.VALUES,
               lambda x, mean: Values(x / np.float32(127.5) - 1)),
    Hypothesis("minus-1-to-1-instead", "scaled to -1 to 1 in place of the mean", Stage.VALUES,
               lambda x, mean: Values(x / np.float32(127.5) - 1, final=True)),
)  # fmt: skip


def _nchw_as_nhwc(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(2, 0, 1)).reshape(x.shape)


def _nhwc_as_nchw(x: Array) -> Array:
    height, width, channels = x.shape
    return np.ascontiguousarray(x).reshape(channels, height, width).transpose(1, 2, 0)


_LAYOUT = (
    Hypothesis("nchw", "a C×H×W picture read as H×W×C", Stage.LAYOUT,
               lambda x, mean: _nchw_as_nhwc(x)),
    Hypothesis(f"nchw{AFTER_MEAN}", "a C×H×W picture read as H×W×C, after the mean", Stage.LAYOUT,
               lambda x, mean: _nchw_as_nhwc(x - mean) + mean),
    Hypothesis("nhwc", "an H×W×C picture read as C×H×W", Stage.LAYOUT,
               lambda x, mean: _nhwc_as_nchw(x)),
    Hypothesis(f"nhwc{AFTER_MEAN}", "an H×W×C picture read as C×H×W, after the mean", Stage.LAYOUT,
               lambda x, mean: _nhwc_as_nchw(x - mean) + mean),
)  # fmt: skip


def _order(head: Head) -> Array:
    """VLAD's vector with D fastest (k·D + d) in place of K (d·K + k)."""
    clusters, width = head.values["vlad:core"].shape[2:]
    vector = head.values["postL2"].reshape(-1, width, clusters)
    return head.behind("postL2", vector.transpose(0, 2, 1).reshape(len(vector), -1))


_INSIDE = (
    Hypothesis("vlad-order", "VLAD's vector ordered k·D + d (by cluster) in place of d·K + k",
               Stage.INSIDE, _order, "vlad:core"),
    Hypothesis("not-normalised", "the descriptor not L2-normalised at the end", Stage.INSIDE,
               lambda head: flat(head.before(head.layers[-1])), "postL2"),
    Hypothesis("no-whitening", "the whitening (WPCA) left out", Stage.INSIDE,
               lambda head: head.before("WPCA"), "WPCA"),
    Hypothesis("no-intranorm", "the normalisation within clusters left out", Stage.INSIDE,
               lambda head: head.behind("vlad:intranorm", head.before("vlad:intranorm")),
               "vlad:intranorm"),
    Hypothesis("no-prel2", "the features not L2-normalised before VLAD", Stage.INSIDE,
               lambda head: head.behind("preL2", head.before("preL2")), "preL2"),
)  # fmt: skip

_RESULT = (
    Hypothesis("not-renormalised", "the first dimensions cut off and not L2-normalised again",
               Stage.RESULT, lambda vector, length: vector[:length]),
    Hypothesis("float16", "the descriptor rounded to float16", Stage.RESULT,
               lambda vector, length: fitted(vector, length).astype(np.float16)),
    Hypothesis("decimals-3", "the descriptor written with 3 decimals", Stage.RESULT,
               lambda vector, length: fitted(vector, length).round(3)),
    Hypothesis("decimals-4", "the descriptor written with 4 decimals", Stage.RESULT,
               lambda vector, length: fitted(vector, length).round(4)),
    Hypothesis("decimals-5", "the descriptor written with 5 decimals", Stage.RESULT,
               lambda vector, length: fitted(vector, length).round(5)),
)  # fmt: skip


def fitted(vector: Array, length: int) -> Array:
    """As a shorter descriptor is made of a longer one: its first numbers, normalised again."""
    if len(vector) <= length:
        return vector
    short = vector[:length].astype(np.float64)
    norm = np.sqrt(short @ short)
    cut: Array = short / norm if norm else short
    return cut
