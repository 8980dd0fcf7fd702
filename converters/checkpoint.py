"""`Checkpoint`: the one form in which weights are held between reader and model.

It keeps the source's own names, axes and vocabulary; nothing is renamed or
transposed here. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEAN", "Array", "Checkpoint", "Layer", "Origin"]

Array = NDArray[Any]

#: Name under which a reader of MatConvNet files keeps `averageImage`, as H×W×C.
MEAN = "normalization/averageImage"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer in MatConvNet's own vocabulary.

    kind     MatConvNet's `type` (`conv`, `pool`, `relu`, `normalize`, ...); for
             a custom layer the name of its class (`layerVLAD`,
             `layerVLADv2`, `layerWholeL2Normalize`, `layerTotalMaxPool`,
             `layerTotalAvgPool`).
    inputs   names of the layers it reads, or of the net's own inputs: `input`
             in a SimpleNN net, in a DagNN the variables that no layer makes.
    params   its tensors' names in `Checkpoint.tensors`, in the source's order;
             layers may share them.
    options  MatConvNet's settings after the upgrades of `vl_simplenn_tidy`:
             conv `pad` (top, bottom, left, right), `stride` (y, x), `dilate`
             (y, x); pool `method` (`max` or `avg`), `pool` (h, w), `stride`,
             `pad`; relu `leak`; normalize `param` (N, kappa, alpha, beta).
             Tuples of int or float, never arrays.
    output   the name of the variable that it makes, in a DagNN.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    params: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint was read from.

    path     the file, or a TF checkpoint's prefix.
    format   a key of `converters.formats.SOURCES`.
    files    every file that was read; a TF checkpoint has several.
    session  the net's own name for itself (`meta.sessionID`), if it says one.
    notes    what the reader left out or upgraded, in words.
    """

    path: Path
    format: str
    files: tuple[Path, ...] = ()
    session: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A net as its source holds it.

    tensors        name -> array, with the source's axes. MatConvNet: filters
                   `<layer>/weights/0` H×W×I×O (always 4 axes), vectors with
                   one axis, scale's H×W×C, `MEAN` H×W×C; a DagNN's own names
                   of its parameters. TensorFlow: the variables' names.
                   Arrays may be read-only views of a mapped file.
    layers         in the order of execution; empty where the source holds
                   variables only (TF checkpoint, Keras .h5).
    preprocessing  `meta.normalization` without its averageImage: `imageSize`,
                   `interpolation`, `border`, ... as tuples, floats and strings.
    outputs        layers whose outputs are the net's, where it was cut; empty: those
                   that no layer reads.
    """

    tensors: Mapping[str, Array]
    layers: tuple[Layer, ...]
    preprocessing: Mapping[str, Any]
    origin: Origin
    outputs: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold together."""
        return sum(int(np.prod(t.shape, dtype=np.int64)) for t in self.tensors.values())
