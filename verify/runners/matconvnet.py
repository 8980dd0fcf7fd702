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
from verify.declared import without_dropout
from verify.names.canonical import IMAGE
from verify.names.given import Names
from verify.reference import reference, subtracts, weights_of
from verify.runners.layered import Images

__all__ = ["MatConvNet", "open"]


@dataclass(slots=True)
class MatConvNet:
    """A `Runner` on NumPy."""

    checkpoint: Checkpoint
    kind: str = "mat"
    notes: tuple[str, ...] = ("run by the oracle in float32",)
    takes: Images = field(default_factory=Images)
    layers: tuple[str, ...] = field(init=False)
    reads: dict[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.reads = {"input": (IMAGE,)} if subtracts(self.checkpoint) else {}
        self.reads |= {layer.name: tuple(layer.inputs) for layer in self.checkpoint.layers}
        self.layers = tuple(self.reads)

    def run(self, images: Array | Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Every layer's output, in order."""
        steps = oracle.execute(self.checkpoint, images, np.float32)
        return (step for step in steps if step[0] in self.reads)

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        """One layer alone."""
        return oracle.replay(self.checkpoint, layer, inputs, np.float32)

    def deployed(self, images: Array | Mapping[str, Array]) -> Mapping[str, Array]:
        """What no layer reads."""
        read = {name for inputs in self.reads.values() for name in inputs}
        return {name: values for name, values in self.run(images) if name not in read}

    def weights(self) -> Mapping[str, Array]:
        """Every weight by its canonical name."""
        return weights_of(self.checkpoint)


def open(path: Path, names: Names = MappingProxyType({})) -> MatConvNet:
    """Open a `.mat` file. Raises the reader's typed errors."""
    return MatConvNet(without_dropout(reference(path)))
