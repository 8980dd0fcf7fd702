"""`reference.npz`: a run of the oracle that was kept, so that nobody needs the source for it.

The arrays `NNN|layer` are the outputs in order, `image` (or `image|NAME` for each input) what they
were made from, `mean` what the net subtracts; `facts` is JSON: the source's files, the layers, what
float32 costs at each, and the sha256 of every weight.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Checkpoint, Layer, Origin
from converters.errors import EnvironmentFailure, ReadError
from verify.capture import Array, Images

__all__ = ["FILENAME", "Cost", "Fingerprint", "Kept", "Proof", "fingerprint", "load", "save"]

FILENAME = "reference.npz"
_FORM = "netvlad-verify reference 1"
_IMAGE = "image"
#: A file that somebody hands on must not fill the memory.
_LARGEST = 2**30
#: Values that are hashed together (4 MB).
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """Of float32 at a layer: RMS and largest of its rounding, as `compare.Reference` has them."""

    rounding: float
    peak: float


@dataclass(frozen=True, slots=True)
class Kept:
    """One layer's output in the whole net's run, in float64 or rounded to float32.

    own        what float32 costs in the layer alone, fed with the kept outputs that it reads,
               rounded to float32; None for `input`, and where one of those was not kept.
    inherited  what it costs in the whole net.
    halved     the same two of float16 (`verify.arithmetic`); None in a file of an older version.
    """

    values: Array
    own: Cost | None
    inherited: Cost
    halved: tuple[Cost | None, Cost] | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One weight, with canonical axes; `halved`: once it is rounded to float16."""

    shape: tuple[int, ...]
    sha256: str
    halved: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What stands in for the source.

    checkpoint  its layers as the artifacts have them, without a weight but the mean.
    files       the source's files: name -> sha256.
    images      what the layers were run on.
    layers      name -> output, in order; a net of a large fixed size keeps its smaller ones.
    weights     canonical name -> fingerprint, in the source's order.
    """

    checkpoint: Checkpoint
    files: Mapping[str, str]
    images: Images
    layers: Mapping[str, Kept]
    weights: Mapping[str, Fingerprint]


def fingerprint(weight: Array) -> Fingerprint:
    """sha256 of a weight's values as little-endian float32 in C order; a zero has no sign."""
    exact, halved = hashlib.sha256(), hashlib.sha256()
    rows = weight.reshape(1) if weight.ndim == 0 else weight
    step = max(1, _BLOCK * len(rows) // max(1, rows.size))
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype("<f4") + np.float32(0)
        exact.update(block.tobytes())
        with np.errstate(over="ignore"):
            halved.update(block.astype("<f2").astype("<f4").tobytes())
    return Fingerprint(tuple(weight.shape), exact.hexdigest(), halved.hexdigest())


def save(proof: Proof, path: Path) -> None:
    """Write a proof, in one step. Raises `EnvironmentFailure` where that cannot be done."""
    checkpoint = proof.checkpoint
    facts = {
        "form": _FORM,
        "source": {"name": checkpoint.origin.path.name, "files": dict(proof.files)},
        "format": checkpoint.origin.format,
        "layers": [asdict(layer) for layer in checkpoint.layers],
        "outputs": checkpoint.outputs,
        "costs": {
            name: {key: value for key, value in asdict(kept).items() if key != "values"}
            for name, kept in proof.layers.items()
        },
        "weights": {name: asdict(each) for name, each in proof.weights.items()},
    }
    arrays = {f"{i:03d}|{name}": kept.values for i, (name, kept) in enumerate(proof.layers.items())}
    if isinstance(proof.images, Mapping):
        arrays |= {f"{_IMAGE}|{name}": values for name, values in proof.images.items()}
    else:
        arrays[_IMAGE] = proof.images
    if MEAN in checkpoint.tensors:
        arrays["mean"] = checkpoint.tensors[MEAN]
    text = json.dumps(facts, default=lambda array: array.tolist())
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, facts=np.array(text), **arrays)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EnvironmentFailure(f"{path}: cannot be written: {error.strerror}") from error


def load(path: Path) -> Proof:
    """Read what `save` wrote. Raises `ReadError` for anything else."""
    if not path.is_file():
        raise ReadError(path, "does not exist")
    try:
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > _LARGEST:
                raise ValueError(f"it would take {size:,} bytes of memory")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                proof = _proof(path, json.loads(str(arrays["facts"])), arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
            RecursionError, zipfile.BadZipFile) as error:  # fmt: skip
        raise ReadError(
            path,
            f"is no reference: {error}",
            advice="netvlad-verify reference --source FILE makes one",
        ) from error
    if not proof.layers or not proof.weights:
        raise ReadError(path, "holds no layers or no weights: there is nothing to compare with")
    return proof


def _proof(path: Path, facts: Mapping[str, Any], arrays: Any) -> Proof:
    if facts["form"] != _FORM:
        raise ValueError(f"its form is {facts['form']!r}, {_FORM!r} is known")
    outputs = {name.split("|", 1)[1]: name for name in arrays.files if name[:1].isdecimal()}
    layers = {}
    for name, costs in facts["costs"].items():
        halved = costs.get("halved")
        layers[name] = Kept(
            arrays[outputs[name]],
            _cost(costs["own"]),
            Cost(**costs["inherited"]),
            (_cost(halved[0]), Cost(**halved[1])) if halved else None,
        )
    named = {
        name.split("|", 1)[1]: arrays[name] for name in arrays.files if name[:6] == f"{_IMAGE}|"
    }
    checkpoint = Checkpoint(
        tensors={MEAN: arrays["mean"]} if "mean" in arrays.files else {},
        layers=tuple(Layer(**_tuples(row)) for row in facts["layers"]),
        preprocessing={},
        origin=Origin(Path(facts["source"]["name"]), facts["format"]),
        outputs=tuple(facts["outputs"]),
    )
    weights = {
        name: Fingerprint(tuple(each["shape"]), each["sha256"], each.get("halved", ""))
        for name, each in facts["weights"].items()
    }
    return Proof(checkpoint, facts["source"]["files"], named or arrays[_IMAGE], layers, weights)


def _cost(fields: Mapping[str, float] | None) -> Cost | None:
    return Cost(**fields) if fields else None


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    if isinstance(value, Mapping):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
