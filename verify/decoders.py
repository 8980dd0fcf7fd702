"""Other ways to read a picture than `load_image`: uint8 H×W×3, RGB."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from netvlad_keras.preprocess import load_image
from verify.capture import Array

__all__ = ["draft", "opencv", "saved_again", "ycbcr"]


def draft(scale: int, path: Path) -> Array:
    """libjpeg's decoding at a fraction of the size, which Pillow's `draft` and `thumbnail` use."""
    with Image.open(path) as image:
        image.draft("RGB", (image.width // scale, image.height // scale))
        return load_image(image)


def ycbcr(path: Path) -> Array:
    """The colours converted by Pillow's formula in place of libjpeg's."""
    with Image.open(path) as image:
        image.draft("YCbCr", image.size)
        return load_image(image)


def saved_again(quality: int, path: Path) -> Array:
    file = io.BytesIO()
    Image.fromarray(load_image(path)).save(file, "JPEG", quality=quality)
    return load_image(Image.open(file))


def opencv(path: Path) -> Array:
    pixels = import_module("cv2").imread(str(path))
    if pixels is None:
        raise OSError(f"{path}: OpenCV does not read it")
    return np.ascontiguousarray(pixels[..., ::-1])
