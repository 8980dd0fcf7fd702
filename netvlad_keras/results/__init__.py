"""Descriptors in files: `.npz` or `.parquet`, read and written by their suffix.

Each format has a module here with `read(path)` and `write(path, rows, about)`. A folder of
`.parquet` shards, as a cluster writes it, is read like a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import DescriptorsError, EnvironmentFailure

__all__ = [
    "SUFFIXES",
    "Descriptors",
    "Few",
    "Rows",
    "check_suffix",
    "names",
    "read",
    "replacing",
    "unfit",
    "write",
]

SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Images and what a model says of them, in the order of the paths.

    paths   N names of image files.
    vectors float32 [N, D], each of length 1, row by row as `paths`.
    about   which model made them and how, plain data: `model`, `sha256`, `dimension`, `resize`;
            and `faults`, path -> why this image has none.
    """

    paths: tuple[str, ...]
    vectors: NDArray[np.float32]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def faults(self) -> Mapping[str, str]:
        """Path -> why this image has no descriptor."""
        return dict(self.about.get("faults", {}))


class Rows(Protocol):
    """Descriptors that need not be in memory: N×D, given a block at a time."""

    @property
    def paths(self) -> tuple[str, ...]: ...

    @property
    def dimension(self) -> int: ...

    def blocks(self) -> Iterator[tuple[tuple[str, ...], NDArray[np.float32]]]:
        """Paths and float32 [n, D], in order."""
        ...


@dataclass(frozen=True, slots=True)
class Few:
    """A few descriptors in memory as `Rows`: n paths, n times float32 [D]."""

    paths: tuple[str, ...]
    vectors: Sequence[NDArray[np.float32]]

    @property
    def dimension(self) -> int:
        return len(self.vectors[0])

    def blocks(self) -> Iterator[tuple[tuple[str, ...], NDArray[np.float32]]]:
        for path, vector in zip(self.paths, self.vectors, strict=True):
            yield (path,), vector[None]


def check_suffix(path: str | PathLike[str]) -> Path:
    """The path, if its suffix is that of a format. Raises `DescriptorsError`."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DescriptorsError(path, f"descriptors are {' or '.join(SUFFIXES)} files")
    _module(path)
    return path


def read(path: str | PathLike[str]) -> Descriptors:
    """Read a file of descriptors; sorted by path.

    Raises `DescriptorsError` for a damaged file and for descriptors with NaN or infinity.
    """
    path = check_suffix(path)
    with _readable(path, "descriptors"):
        paths, vectors, about = _reader(path).read(path)
    if vectors.ndim != 2 or len(vectors) != len(paths) or len(set(paths)) != len(paths):
        raise DescriptorsError(path, f"{len(paths)} paths and {vectors.shape} numbers do not match")
    if not isinstance(about, dict) or not isinstance(about.get("faults", {}), dict):
        raise DescriptorsError(path, "what it says of itself is not in this project's form")
    if odd := [each for each in paths if "\0" in each]:
        raise DescriptorsError(path, f"{odd[0]!r} is no name of a file")
    if not paths:
        raise DescriptorsError(path, "holds no descriptors")
    if not np.isfinite(vectors).all():
        raise DescriptorsError(path, "holds NaN or infinity")
    order = sorted(range(len(paths)), key=paths.__getitem__)
    if order != list(range(len(paths))):
        vectors = vectors[order]
    return Descriptors(tuple(paths[i] for i in order), vectors, about)


def names(path: str | PathLike[str]) -> list[str]:
    """The paths alone; a `.parquet` needs no other column. Raises `DescriptorsError`."""
    path = check_suffix(path)
    with _readable(path, "paths"):
        found: list[str] = _reader(path).names(path)
    if not found:
        raise DescriptorsError(path, "names no images")
    return found


def unfit(path: Path, paths: Iterable[str]) -> dict[str, str]:
    """Names that a file of this format cannot hold, and why."""
    if path.suffix.lower() != ".parquet":
        return {}
    reason = "its name is not UTF-8, which .parquet needs: write .npz, or rename it"
    return {name: reason for name in paths if any("\ud800" <= c <= "\udfff" for c in name)}


def write(
    path: str | PathLike[str], rows: Rows, about: Mapping[str, Any], *, shared: bool = False
) -> None:
    """Write a file of descriptors, a block at a time, complete or not at all."""
    path = check_suffix(path)
    with replacing(path, shared=shared) as draft:
        _module(path).write(draft, rows, about)


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A name to write at, which takes the place of `path` once all of it is on the disk.

    It is the same at each run, which replaces what one that was killed left; unless `path` is
    `shared` by runs that do not wait for each other.
    """
    own = f".{uuid4().hex[:8]}" if shared else ""
    draft = path.with_name(f".{path.name}{own}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise EnvironmentFailure(f"{path}: cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # not there, or its folder is not
            draft.unlink()


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except DescriptorsError:
        raise
    except FileNotFoundError as error:
        raise DescriptorsError(path, "there is no such file") from error
    except Exception as error:  # zipfile, numpy and pyarrow have a dozen for broken files
        raise DescriptorsError(path, f"is no file of {what}: {error}") from error


def _reader(path: Path) -> Any:
    return import_module(f"{__name__}.folder") if path.is_dir() else _module(path)


def _module(path: Path) -> Any:
    name = path.suffix.lower().removeprefix(".")
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise EnvironmentFailure(
            f"{path}: needs {error.name}, which is not installed",
            advice="pip install 'netvlad-keras[retrieval]', or write .npz.",
        ) from error
