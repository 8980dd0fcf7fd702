"""Runs a MatConvNet file itself, in float32: what rounding alone makes of the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from converters.checkpoint import Checkpoint
from verify import oracle
from verify.capture import Array
from verify.names.given import Names
from verify.reference import reference, weights_of

__all__ = ["MatConvNet", "open"]


@dataclass(slots=True)
class MatConvNet:
    """A `Runner` on NumPy."""

    checkpoint: Checkpoint
    kind: str = "mat"
    notes: tuple[str, ...] = ("run by the oracle in float32",)
    layers: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.layers = ("input", *(layer.name for layer in self.checkpoint.layers))

    def run(self, images: Array) -> Iterator[tuple[str, Array]]:
        """Every layer's output, in order."""
        return oracle.execute(self.checkpoint, images, np.float32)

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        """One layer alone."""
        return oracle.replay(self.checkpoint, layer, inputs, np.float32)

    def deployed(self, images: Array) -> Mapping[str, Array]:
        """The last layer's output."""
        *_, last = self.run(images)
        return dict([last])

    def weights(self) -> Mapping[str, Array]:
        """Every weight by its canonical name."""
        return weights_of(self.checkpoint)


def open(path: Path, names: Names = MappingProxyType({})) -> MatConvNet:
    """Open a `.mat` file. Raises the reader's typed errors."""
    return MatConvNet(reference(path))
