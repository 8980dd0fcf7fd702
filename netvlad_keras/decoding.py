"""Image files, found in folders and decoded by several threads, never more than a few ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

from netvlad_keras import results
from netvlad_keras.errors import RetrievalError
from netvlad_keras.preprocess import ImageError, Pixels, load_image

__all__ = ["SUFFIXES", "Resize", "decoded", "listed"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True, slots=True)
class Resize:
    """How images are resized, as `load_image` does it; at most one is given, in pixels."""

    size: tuple[int, int] | None = None
    shorter_side: int | None = None
    longer_side: int | None = None


def listed(places: Iterable[Path]) -> tuple[Path, ...]:
    """The image files that are named, and those below the folders that are; sorted, each once.

    A file that is named counts as an image whatever it is called, except for a `.parquet`, which
    stands for the images that its column `path` names. Raises `RetrievalError` for a name that
    is not there, a folder without images and a `.parquet` without paths.
    """
    found: set[Path] = set()
    for place in places:
        try:
            found |= _below(place)
        except OSError as error:
            raise RetrievalError(f"{place}: {error.strerror}") from error
    return tuple(sorted(found, key=lambda path: path.as_posix()))


def _below(place: Path) -> set[Path]:
    if place.suffix.lower() == ".parquet" and place.exists():
        return {Path(name) for name in results.names(place)}
    if place.is_dir():
        inside = set(_images_in(place))
        if not inside:
            raise RetrievalError(f"{place}: no images ({', '.join(SUFFIXES)})")
        return inside
    if not place.exists():
        raise RetrievalError(f"{place}: there is no such file or folder")
    return {place}


def _images_in(folder: Path) -> Iterator[Path]:
    """Also those behind links to folders; a folder that has two ways to it is gone through once.

    A link to nothing counts as an image: that it cannot be read is said when it is.
    """
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for path in (Path(root, name) for name in files):
            if path.suffix.lower() in SUFFIXES and (path.is_file() or not path.exists()):
                yield path


def _raise(error: OSError) -> NoReturn:
    raise RetrievalError(f"{error.filename}: {error.strerror}") from error


def decoded(
    paths: Sequence[Path], resize: Resize | None = None, jobs: int | None = None
) -> Iterator[tuple[Path, Pixels | ImageError]]:
    """Every path in order, with its image, uint8 [height, width, 3], or why there is none.

    `jobs` threads decode (default: one for each processor, 8 at most), two images ahead each,
    so that memory does not grow with the number of images.
    """
    jobs = jobs or min(8, os.cpu_count() or 1)
    given = resize or Resize()

    def load(path: Path) -> Pixels | ImageError:
        try:
            return load_image(
                path,
                size=given.size,
                shorter_side=given.shorter_side,
                longer_side=given.longer_side,
            )
        except ImageError as error:
            return error

    with ThreadPoolExecutor(jobs, thread_name_prefix="decode") as pool:
        left = iter(paths)
        ahead: deque[tuple[Path, Future[Pixels | ImageError]]] = deque(
            (path, pool.submit(load, path)) for path in islice(left, 2 * jobs)
        )
        try:
            while ahead:
                path, future = ahead.popleft()
                yield path, future.result()
                ahead.extend((each, pool.submit(load, each)) for each in islice(left, 1))
        finally:
            pool.shutdown(cancel_futures=True)
