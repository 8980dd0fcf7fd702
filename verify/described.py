"""`Described`: one picture through an artifact, with one or two steps on the way done otherwise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.errors import ConversionError
from netvlad_keras.preprocess import ImageError
from verify.capture import Array, Runner
from verify.head import Head, flat
from verify.hypotheses import AFTER_MEAN, Hypothesis, Stage, Values, fitted
from verify.resizing import to_size

__all__ = ["Described"]

_PIXELS = (Stage.TURNED, Stage.SIZED, Stage.COLOUR)


@dataclass(slots=True)
class Described:
    """Distances between `theirs` and what the artifact makes of a picture; each input runs once.

    pixels  the picture as it should be read, uint8 H×W×3.
    size    what it is resized to where no hypothesis says otherwise; None: as it is.
    mean    what the artifact subtracts, one number for each channel.
    """

    artifact: Runner
    path: Path
    pixels: Array
    theirs: Array
    size: tuple[int, int] | None = None
    mean: Array | None = field(init=False)
    _usual: str = field(init=False)
    _vectors: dict[str, Array] = field(default_factory=dict)
    _heads: dict[str, Head] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mean = self.artifact.weights().get("input/mean")
        self.mean = None if mean is None else np.asarray(mean, np.float32).reshape(-1)
        self._usual = _digest(self._fed({}))

    def applies(self, row: Hypothesis) -> bool:
        """Whether a hypothesis changes anything here."""
        if row.needs and row.needs not in self.artifact.layers:
            return False
        if row.stage is Stage.READ and self.path.suffix.lower() == ".npy":
            return False
        if row.name == "not-renormalised":
            return len(self.theirs) < len(self._described({}))
        if row.stage >= Stage.INSIDE:
            return True
        try:
            return _digest(self._fed({row.stage: row})) != self._usual
        except (ImageError, OSError, ValueError):
            return False  # such as a JPEG's decoding of what is none

    def distance(self, changes: Sequence[Hypothesis]) -> float:
        """L2 between theirs and ours with these changes, over the longer of both.

        Infinite where theirs is longer than ours. Without changes what the artifact refuses is
        raised; with some it is infinite.
        """
        steps = {row.stage: row for row in changes}
        try:
            vector = self._described(steps)
        except (ConversionError, ImageError, OSError, ValueError):
            if not changes:
                raise
            return math.inf
        if row := steps.get(Stage.RESULT):
            vector = row.change(vector, len(self.theirs))
        vector = fitted(np.asarray(vector, np.float64), len(self.theirs))
        if len(vector) != len(self.theirs) or not np.isfinite(vector).all():
            return math.inf
        longer = max(float(np.linalg.norm(vector)), float(np.linalg.norm(self.theirs)))
        return float(np.linalg.norm(vector - self.theirs)) / longer

    def _described(self, steps: Mapping[Stage, Hypothesis]) -> Array:
        fed = self._fed(steps)
        if row := steps.get(Stage.INSIDE):
            vector: Array = row.change(self._head(fed))[0]
            return vector
        return self._vector(fed)

    def _vector(self, fed: Array) -> Array:
        key = _digest(fed)
        if key not in self._vectors:
            *_, last = self.artifact.deployed(fed[None]).values()
            if last.ndim != 2 and last.shape[1:3] != (1, 1):
                raise ConversionError(f"its output of shape {last.shape} is no descriptor")
            self._vectors[key] = flat(last)[0]
        return self._vectors[key]

    def _head(self, fed: Array) -> Head:
        """Only the last few are kept: they are larger than a descriptor."""
        key = _digest(fed)
        if key not in self._heads:
            while len(self._heads) > 3:
                del self._heads[next(iter(self._heads))]
            self._heads[key] = Head(self.artifact, fed[None])
        return self._heads[key]

    def _fed(self, steps: Mapping[Stage, Hypothesis]) -> Array:
        """What goes into the net, H×W×C: uint8 as long as nothing makes it other numbers."""
        row = steps.get(Stage.READ)
        pixels = np.asarray(row.change(self.path)) if row else self.pixels
        for stage in _PIXELS:
            if row := steps.get(stage):
                pixels = row.change(np.ascontiguousarray(pixels))
            elif stage is Stage.SIZED and self.size not in (None, pixels.shape[:2]):
                assert self.size
                pixels = to_size(np.ascontiguousarray(pixels), self.size)
        mean = np.zeros(3, np.float32) if self.mean is None else self.mean
        row = steps.get(Stage.VALUES)
        values = row.change(pixels.astype(np.float32), mean) if row else Values(pixels)
        fed = values.pixels
        if row := steps.get(Stage.LAYOUT):
            if values.final and row.name.endswith(AFTER_MEAN):
                raise ValueError("the mean is not subtracted by then: it is the other hypothesis")
            fed = row.change(fed, mean)
        if values.final:
            fed = fed + mean
        return np.ascontiguousarray(fed, None if fed.dtype == np.uint8 else np.float32)


def _digest(fed: Array) -> str:
    digest = hashlib.sha256(f"{fed.dtype} {fed.shape}".encode())
    digest.update(fed.tobytes())
    return digest.hexdigest()
