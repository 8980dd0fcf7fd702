"""Describing many images: decoded by threads, batched by size, kept as they come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from netvlad_keras import results, shards
from netvlad_keras.decoding import Resize, decoded
from netvlad_keras.engines import Engine, open_model
from netvlad_keras.errors import CropError, RetrievalError
from netvlad_keras.preprocess import ImageError, Pixels

__all__ = [
    *("Described", "Model", "Progress"),
    *("cropped", "describe", "described", "none_described", "opened"),
]

Vector = NDArray[np.float32]

#: Bytes of descriptors that wait for their shard at most.
_SHARD = 8 << 20


class Progress(Protocol):
    """Who wants to know how far it is."""

    def start(self, total: int, done: int) -> None: ...

    def image(self, path: str, fault: str) -> None:
        """One more image; `fault` says why it has no descriptor, `""` if it has."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """An opened model and how it is used.

    engine    what describes.
    about     which model and which settings make the descriptors: plain data for files.
    resize    of every image.
    dimension descriptors are cut to this length and normalised again; None: whole.
    batch     images of one size that are described at a time.
    jobs      threads that decode.
    """

    engine: Engine
    about: Mapping[str, Any]
    resize: Resize | None = None
    dimension: int | None = None
    batch: int = 4
    jobs: int | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """What came of it.

    output   the file of descriptors.
    new      images described by this run; `before`: by the runs that it went on from.
    faults   path -> why this image has no descriptor.
    """

    output: Path
    new: int
    before: int
    faults: Mapping[str, str] = field(default_factory=dict)


def opened(
    path: Path,
    *,
    resize: Resize | None = None,
    dimension: int | None = None,
    batch: int = 4,
    jobs: int | None = None,
    threads: int | None = None,
) -> Model:
    """Open a model file for describing. Raises as `open_model`, and `CropError`."""
    engine = open_model(path, threads)
    whole = engine.contract.dimension
    if dimension is not None:
        _check_crop(dimension, engine)
    kept = {key: value for key, value in asdict(resize or Resize()).items() if value}
    about = {
        "model": path.name,
        "sha256": _sha256(path),
        "dimension": dimension or whole,
        "resize": {key: list(v) if isinstance(v, tuple) else v for key, v in kept.items()},
    }
    return Model(engine, about, resize, dimension, batch, jobs)


def describe(
    model: Model,
    paths: Sequence[Path],
    output: Path,
    progress: Progress | None = None,
    *,
    shard: int = 256,
    restart: bool = False,
) -> Described:
    """Describe images into a `.npz` or `.parquet` file, in the order of their names.

    A killed run goes on where it was: of what is done at most `shard` images are lost, and an
    image that could not be read is tried again. The file's bytes do not depend on how often it
    was killed. An image that cannot be described is left out and named in the result.

    Raises `RetrievalError` where no image could be described, `DescriptorsError` where the
    parts beside `output` were made with something else, `EnvironmentFailure` where it cannot
    be written.
    """
    output = results.check_suffix(output)
    names = {path.as_posix(): path for path in paths}
    asked = sorted(names)
    with shards.opened(output, model.about, restart=restart) as parts:
        done = parts.done
        left = [names[name] for name in asked if name not in done]
        before = len(asked) - len(left)
        if progress:
            progress.start(len(asked), before)
        faults: dict[str, str] = {}
        ready: list[tuple[str, Vector]] = []
        for path, vector in described(model, left):
            fault = "" if isinstance(vector, np.ndarray) else vector
            if isinstance(vector, np.ndarray):
                ready.append((path.as_posix(), vector))
            else:
                faults[path.as_posix()] = vector
            if progress:
                progress.image(path.as_posix(), fault)
            if len(ready) >= shard or sum(each.nbytes for _, each in ready) >= _SHARD:
                _keep(parts, ready)
        _keep(parts, ready)
        merged = parts.merged(asked)
        count = len(merged.paths)
        if not count:
            if not parts.done:
                parts.remove()
            raise RetrievalError(none_described(faults))
        results.write(output, merged, {**model.about, "faults": faults})
        parts.remove()
    return Described(output, count - before, before, faults)


def _keep(parts: shards.Shards, ready: list[tuple[str, Vector]]) -> None:
    if ready:
        paths, vectors = zip(*ready, strict=True)
        parts.add(paths, vectors)
        ready.clear()


def none_described(faults: Mapping[str, str]) -> str:
    """Why there is no result, in words."""
    if not faults:
        return "there are no images to describe"
    path, fault = next(iter(faults.items()))
    return f"none of {len(faults)} images could be described: {path}: {fault}"


def described(model: Model, paths: Sequence[Path]) -> Iterator[tuple[Path, Vector | str]]:
    """Each image with its descriptor, float32 [D], or with the reason why it has none.

    Images of one size go into the model together, so that the order is not that of `paths`.
    At most eight batches wait for others of their size.
    """
    waiting: dict[tuple[int, ...], list[tuple[Path, Pixels]]] = {}
    for path, image in decoded(paths, model.resize, model.jobs):
        if isinstance(image, ImageError):
            yield path, image.reason
            continue
        if misfit := model.engine.contract.misfit(*image.shape[:2]):
            yield path, misfit
            continue
        waiting.setdefault(image.shape, []).append((path, image))
        if len(waiting[image.shape]) == model.batch:
            yield from _batch(model, waiting.pop(image.shape))
        elif sum(map(len, waiting.values())) >= 8 * model.batch:
            yield from _batch(model, waiting.pop(next(iter(waiting))))  # the longest there
    yield from chain.from_iterable(_batch(model, group) for group in waiting.values())


def _batch(
    model: Model, group: Sequence[tuple[Path, Pixels]]
) -> Iterator[tuple[Path, Vector | str]]:
    try:
        found = model.engine.describe(np.stack([image for _, image in group]))
    except MemoryError:
        raise
    except Exception as error:  # each engine has its own for an image that it does not take
        if len(group) > 1:  # which of them is it?
            for one in group:
                yield from _batch(model, [one])
        else:
            yield group[0][0], f"the model does not take it: {error}"
        return
    if model.dimension is not None:
        found = cropped(found, model.dimension)
    for (path, _), vector in zip(group, found, strict=True):
        yield path, vector if np.isfinite(vector).all() else "its descriptor holds NaN or infinity"


def cropped(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """The first `dimension` numbers of each row of [N, D], of length 1 again.

    Only a whitened descriptor has its numbers in an order that allows it (NetVLAD's
    `README`: "cropping"): `opened` refuses it for all others.
    """
    if dimension == vectors.shape[1]:
        return vectors
    first = vectors[:, :dimension].astype(np.float64)
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    return np.asarray(first / np.maximum(lengths, 1e-12), np.float32)


def _check_crop(dimension: int, engine: Engine) -> None:
    contract = engine.contract
    if contract.whitened is None:
        raise CropError(dimension, "the file does not say whether they are whitened")
    if not contract.whitened:
        reason = "the net has no whitening, and without it the first numbers mean no more than "
        raise CropError(dimension, f"{reason}any others (a name that ends in _white has it)")
    if contract.dimension is not None and not 1 <= dimension <= contract.dimension:
        raise CropError(dimension, f"they have {contract.dimension}")


def _sha256(path: Path) -> str:
    """Of a file, or of all files of a folder with their names."""
    total = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if path.is_file():
            return digest
        total.update(f"{file.relative_to(path).as_posix()} {digest}\n".encode())
    return total.hexdigest()
