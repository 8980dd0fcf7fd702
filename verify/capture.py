"""`Runner` and `Capture`: how an artifact shows every one of its layers.

Arrays are N×H×W×C; `vlad:core` and `vlad:intranorm` N×1×K×D; vectors N×D.
Layers go by the source's names, `input` (the image after the mean) first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.errors import ReadError

__all__ = [
    *("RECORDED", "Array", "Capture", "Images", "Runner"),
    *("batches", "fingerprint", "load", "save"),
]

Array = NDArray[Any]
#: One input, or each of several by its name.
Images = Array | Mapping[str, Array]

#: The kind of what only shows outputs that were kept: without weights, and nothing can be run.
RECORDED = "capture"


class Runner(Protocol):
    """One artifact, opened. Each module of `verify.runners` has `open(path, ...) -> Runner`.

    kind      `mat`, `keras`, `h5`, `weights`, `savedmodel`, `onnx`, `tf_graph`,
              `tf_variables`, `safetensors`, `capture`.
    layers    canonical names, in the artifact's own order of execution.
    notes     what a reader of the report must know (a clamped norm, a layer without a name).
    weights   the artifact's weights by the source tensor's canonical name
              (`conv1_1/kernel` H×W×I×O, `vlad:core/centers` D×K, the centres
              themselves, `WPCA/kernel` I×O, `input/mean` C); what the artifact
              holds but no canonical name fits goes under its own name.
    """

    kind: str
    layers: tuple[str, ...]
    notes: tuple[str, ...]

    def run(self, images: Images) -> Iterator[tuple[str, Array]]:
        """Every layer's output for uint8 or float32 images N×H×W×3, in order."""
        ...

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        """One layer alone, fed with float32 inputs (the reference's)."""
        ...

    def deployed(self, images: Images) -> Mapping[str, Array]:
        """The whole net as a user of the artifact runs it: its outputs, the descriptor last."""
        ...

    def weights(self) -> Mapping[str, Array]:
        """See the class."""
        ...


@dataclass(frozen=True, slots=True)
class Capture:
    """A run that was kept.

    artifact     what was run, in words a person knows it by.
    input_hash   `fingerprint` of the images.
    layers       canonical name -> output, in order.
    """

    artifact: str
    input_hash: str
    layers: Mapping[str, Array]


def batches(images: Images) -> list[Array]:
    """What every input of a net is given."""
    return list(images.values()) if isinstance(images, Mapping) else [images]


def fingerprint(images: Array) -> str:
    """sha256 of the images' shape, type and values."""
    digest = hashlib.sha256(f"{images.dtype.str} {images.shape}".encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()


def save(capture: Capture, path: Path) -> None:
    """Write a capture as an `.npz` whose keys are `NNN|layer`, so that the order is kept."""
    facts = json.dumps({"artifact": capture.artifact, "input_hash": capture.input_hash})
    arrays = {f"{i:03d}|{name}": array for i, (name, array) in enumerate(capture.layers.items())}
    np.savez(path, allow_pickle=False, facts=np.array(facts), **arrays)


def load(path: Path) -> Capture:
    """Read what `save` wrote. Raises `ReadError` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            facts = json.loads(str(archive["facts"]))
            layers = {key.split("|", 1)[1]: archive[key] for key in archive.files if "|" in key}
        return Capture(facts["artifact"], facts["input_hash"], layers)
    except (OSError, ValueError, KeyError) as error:
        raise ReadError(path, f"not a capture: {error}") from error
