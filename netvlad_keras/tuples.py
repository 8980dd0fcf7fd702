"""Images to train on, and tuples of them as batches that `fit` takes."""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from netvlad_keras.datasets import NEAR, RADIUS, Dataset, Places
from netvlad_keras.decoding import Resize
from netvlad_keras.errors import TrainingError
from netvlad_keras.loss import NEGATIVE, POSITIVE, QUERY
from netvlad_keras.mining import Tuple
from netvlad_keras.preprocess import load_image

__all__ = ["ImageSet", "Images", "Photographs", "Tuples", "Views", "opened"]

Array = NDArray[Any]


class Images(Protocol):
    """Images by their number, each [height, width, 3]: a list, an array, or `Photographs`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Photographs:
    """Image files, each decoded when it is asked for. Raises `ImageError` then."""

    def __init__(self, paths: Sequence[Path], resize: Resize | None = None) -> None:
        self.paths = tuple(paths)
        self.resize = resize or Resize()

    def part(self, indices: Iterable[int]) -> Photographs:
        """Some of them."""
        return Photographs([self.paths[index] for index in indices], self.resize)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Array:
        wanted = self.resize
        return load_image(
            self.paths[index],
            size=wanted.size,
            shorter_side=wanted.shorter_side,
            longer_side=wanted.longer_side,
        )


@dataclass(frozen=True, slots=True)
class Views:
    """Images, and where each was taken: [N, 2], metres."""

    images: Images
    positions: Array

    def __post_init__(self) -> None:
        if np.shape(self.positions) != (len(self.images), 2):
            raise TrainingError(
                f"{len(self.images)} images and positions {np.shape(self.positions)} do not match"
            )


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Views to be found, views to find them by, and the radius of a place in metres.

    near  metres within which a view of the same place is a positive to train with.
    """

    database: Views
    queries: Views
    radius: float = RADIUS
    near: float = NEAR


def opened(dataset: Dataset, resize: Resize | None = None) -> ImageSet:
    """The images of a dataset, decoded one by one as they are needed."""

    def views(places: Places) -> Views:
        return Views(Photographs(places.paths, resize), places.positions)

    return ImageSet(views(dataset.database), views(dataset.queries), dataset.radius, dataset.near)


class Tuples(keras.utils.PyDataset):
    """Batches of tuples: images [M, height, width, 3] and their roles [M, 2] (see `loss`).

    `batches` are lists of tuples whose numbers point into `database` and `queries`. All images
    of a batch must have one size: `TrainingError`. Give `fit` `shuffle=False` to keep the order.
    """

    def __init__(
        self,
        batches: Sequence[Sequence[Tuple]],
        database: Images,
        queries: Images,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._batches = batches
        self._database = database
        self._queries = queries

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        images: list[Any] = []
        roles: list[tuple[int, int]] = []
        for number, each in enumerate(self._batches[index]):
            images += [self._queries[each.query], self._database[each.positive]]
            images += [self._database[negative] for negative in each.negatives]
            roles += [(number, QUERY), (number, POSITIVE)]
            roles += [(number, NEGATIVE)] * len(each.negatives)
        sizes = sorted({np.shape(image)[:2] for image in images})
        if len(sizes) > 1:
            listed = ", ".join(f"{height}×{width}" for height, width in sizes)
            raise TrainingError(
                f"images of several sizes in one batch: {listed}",
                advice="Give one size to which all are resized.",
            )
        return np.stack(images), np.array(roles, np.float32)
