"""An opened model, and images through it: decoded by threads, several described at a time."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.decoding import Resize, decoded
from netvlad_keras.engines import Engine, open_model
from netvlad_keras.errors import CropError
from netvlad_keras.preprocess import ImageError, Pixels

__all__ = ["Model", "Vector", "cropped", "described", "opened"]

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Model:
    """An opened model and how it is used.

    engine    what describes.
    about     which model and which settings make the descriptors: plain data for files.
    resize    of every image.
    dimension descriptors are cut to this length and normalised again; None: whole.
    batch     images that are described at a time; None: one for each processor where the engine
              takes them alone, else 4 of one size.
    jobs      threads that decode.
    """

    engine: Engine
    about: Mapping[str, Any]
    resize: Resize | None = None
    dimension: int | None = None
    batch: int | None = None
    jobs: int | None = None

    @property
    def at_once(self) -> int:
        """Images that are described at a time."""
        return self.batch or ((os.cpu_count() or 1) if self.engine.alone else 4)


def opened(
    path: Path,
    *,
    resize: Resize | None = None,
    dimension: int | None = None,
    batch: int | None = None,
    jobs: int | None = None,
) -> Model:
    """Open a model file for describing. Raises as `open_model`, and `CropError`."""
    engine = open_model(path)
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


def described(model: Model, paths: Sequence[Path]) -> Iterator[tuple[Path, Vector | str]]:
    """Each image with its descriptor, float32 [D], or with the reason why it has none.

    An engine that takes images alone is given several at a time, in the order of `paths`. For
    any other, images of one size go in together, so that the order is another.
    """
    images = _fitting(model, paths)
    return _side_by_side(model, images) if model.engine.alone else _by_size(model, images)


def _fitting(model: Model, paths: Sequence[Path]) -> Iterator[tuple[Path, Pixels | str]]:
    """Every image that the model takes, and why it does not take the others."""
    for path, image in decoded(paths, model.resize, model.jobs):
        if isinstance(image, ImageError):
            yield path, image.reason
        else:
            yield path, model.engine.contract.misfit(*image.shape[:2]) or image


def _side_by_side(
    model: Model, images: Iterator[tuple[Path, Pixels | str]]
) -> Iterator[tuple[Path, Vector | str]]:
    """Each image by itself, as many at a time as the model has threads for."""

    def one(path: Path, image: Pixels | str) -> tuple[Path, Vector | str]:
        return (path, image) if isinstance(image, str) else next(_batch(model, [(path, image)]))

    with ThreadPoolExecutor(model.at_once, thread_name_prefix="describe") as pool:
        ahead: deque[Future[tuple[Path, Vector | str]]] = deque()
        try:
            for path, image in images:
                ahead.append(pool.submit(one, path, image))
                if len(ahead) >= 2 * model.at_once:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _by_size(
    model: Model, images: Iterator[tuple[Path, Pixels | str]]
) -> Iterator[tuple[Path, Vector | str]]:
    """Batches of one size; at most eight batches wait for others of theirs."""
    waiting: dict[tuple[int, ...], list[tuple[Path, Pixels]]] = {}
    for path, image in images:
        if isinstance(image, str):
            yield path, image
            continue
        waiting.setdefault(image.shape, []).append((path, image))
        if len(waiting[image.shape]) == model.at_once:
            yield from _batch(model, waiting.pop(image.shape))
        elif sum(map(len, waiting.values())) >= 8 * model.at_once:
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
    """Of a file, or of several: those of a folder, an ONNX file and its data; with their names."""
    beside = path.with_name(f"{path.name}.data")
    files = [path, beside] if beside.is_file() else [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    root = path if path.is_dir() else path.parent
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if files == [path]:
            return digest
        total.update(f"{file.relative_to(root).as_posix()} {digest}\n".encode())
    return total.hexdigest()
