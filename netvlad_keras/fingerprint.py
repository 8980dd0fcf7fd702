"""What tells one training's weights and images from another's: digests of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_keras.tuples import Images, Photographs

__all__ = ["of_arrays", "of_images"]


def of_arrays(arrays: Iterable[Any]) -> str:
    """SHA-256 of arrays: their shapes, kinds of numbers and numbers."""
    found = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        found.update(f"{array.shape} {array.dtype.str}".encode())
        found.update(array.data)
    return found.hexdigest()


def of_images(images: Images) -> str:
    """SHA-256 of what tells a list of images from another one, without decoding files.

    Of photographs their names, sizes in bytes and how they are resized: they may lie elsewhere.
    Of images in memory all pixels; of any other sequence its first and last image.
    """
    if isinstance(images, Photographs):
        files = [(path.name, _size(path)) for path in images.paths]
        return hashlib.sha256(repr((images.resize, files)).encode(errors="replace")).hexdigest()
    if isinstance(images, np.ndarray | list | tuple):
        return of_arrays(images)
    return of_arrays([np.array(len(images)), images[0], images[len(images) - 1]])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # that it cannot be read is said when it is
        return -1
