"""The descriptors of many images by a Keras model that is in memory, while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import TrainingError
from netvlad_keras.tuples import Images

__all__ = ["Progress", "described"]

#: Told how many images are done.
Progress = Callable[[int], None]


def described(
    model: keras.Model,
    images: Images,
    *,
    batch: int = 10,
    size: tuple[int, ...] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Descriptors [N, D] of `images`, in their order; `batch` of one size at a time.

    With `size` = (height, width), images of another one are refused with `TrainingError`.
    """
    found = []
    done = 0
    for group in _groups(images, batch):
        if size is not None and group.shape[1:3] != size:
            here, first = ("{}×{}".format(*each) for each in (group.shape[1:3], size))
            raise TrainingError(
                f"images to train on of {here} and of {first} pixels",
                advice="Give one size to which all are resized.",
            )
        found.append(np.asarray(model.predict_on_batch(group), np.float32))
        done += len(group)
        if progress:
            progress(done)
    return np.concatenate(found)


def _groups(images: Images, most: int) -> Iterator[NDArray[Any]]:
    """Runs of images of one size, stacked, `most` at a time."""
    waiting: list[Any] = []
    for index in range(len(images)):
        image = images[index]
        if waiting and (len(waiting) == most or np.shape(image) != np.shape(waiting[0])):
            yield np.stack(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield np.stack(waiting)
