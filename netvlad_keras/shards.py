"""A folder of finished parts beside a result that is still being made, so that it can go on.

A shard is written whole before the manifest (`resuming`) names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netvlad_keras import results, resuming
from netvlad_keras.results import npz
from netvlad_keras.resuming import MANIFEST

__all__ = ["Merged", "Shards", "opened"]

#: Bytes of a block of the result.
_BLOCK = 8 << 20
#: Names of parts, and of drafts that a kill left.
_OURS = re.compile(r"\d{6}\.npz|\.(\d{6}\.npz|_manifest\.json)\.part")


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows of all shards in a given order, gathered from the disk a block at a time."""

    paths: tuple[str, ...]
    dimension: int
    places: Mapping[str, tuple[int, int]]
    files: Sequence[Path]

    def blocks(self) -> Iterator[tuple[tuple[str, ...], NDArray[np.float32]]]:
        step = max(1, _BLOCK // (4 * self.dimension))
        for at in range(0, len(self.paths), step):
            names = self.paths[at : at + step]
            places = np.array([self.places[name] for name in names])
            block = np.empty((len(names), self.dimension), np.float32)
            for shard in np.unique(places[:, 0]):  # one file open at a time
                here = places[:, 0] == shard
                block[here] = npz.mapped(self.files[shard])[places[here, 1]]
            yield names, block


class Shards:
    """The finished parts in a folder: which images are done, and their descriptors."""

    def __init__(self, folder: Path, about: Mapping[str, Any], names: Sequence[str]) -> None:
        self._folder = folder
        self._about = dict(about)
        self._names = list(names)
        self._places: dict[str, tuple[int, int]] = {}
        for shard, name in enumerate(self._names):
            part = folder / name
            self._places |= {
                path: (shard, row)
                for row, path in enumerate(_whole(part))
                if not resuming.changed_since(part, Path(path))
            }

    @property
    def done(self) -> frozenset[str]:
        """Paths of the images that have a descriptor."""
        return frozenset(self._places)

    def add(self, paths: Sequence[str], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Keep descriptors for good: n of them, float32 [D], for n paths that are not done yet."""
        shard, name = len(self._names), f"{len(self._names):06}.npz"
        results.write(self._folder / name, results.Few(tuple(paths), vectors), {})
        self._names.append(name)
        resuming.record(self._folder, self._about, self._names)
        self._places |= {path: (shard, row) for row, path in enumerate(paths)}

    def merged(self, asked: Sequence[str]) -> Merged:
        """Those of the images asked for that are done, in the order asked for."""
        paths = tuple(path for path in asked if path in self._places)
        files = [self._folder / name for name in self._names]
        return Merged(paths, npz.mapped(files[0]).shape[1] if files else 0, self._places, files)

    def remove(self) -> None:
        """The result is complete: the parts are not needed any more."""
        (self._folder / MANIFEST).unlink()  # first: without it there are no parts to miss
        for path in list(self._folder.iterdir()):
            if _OURS.fullmatch(path.name):
                path.unlink()


def _whole(part: Path) -> list[str]:
    """Paths in a part, whose every byte is looked at. Raises `DescriptorsError`."""
    try:
        paths, vectors, _ = npz.read(part)
        if len(npz.mapped(part)) != len(paths) or not np.isfinite(vectors).all():
            raise ValueError(f"{len(paths)} paths and {vectors.shape} numbers do not match")
    except Exception as error:  # zipfile and numpy have a dozen for broken files
        raise resuming.damaged(part, error) from error
    return paths


@contextmanager
def opened(output: Path, about: Mapping[str, Any], *, restart: bool = False) -> Iterator[Shards]:
    """The parts of a result, those of an earlier run included; `restart` forgets them.

    `about` says what makes the descriptors; parts of another making are refused with
    `DescriptorsError`. One run at a time: `EnvironmentFailure` while another is at it.
    """
    folder = output.with_name(f"{output.name}.parts")
    with resuming.locked(folder, output):
        if restart or not (folder / MANIFEST).exists():
            resuming.record(folder, about, [])  # a shard that none names is written over
        yield Shards(folder, about, resuming.recorded(folder, about))
