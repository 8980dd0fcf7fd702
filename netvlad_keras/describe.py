"""Describing many images into a file: kept as they come, and gone on from after a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from netvlad_keras import results, shards
from netvlad_keras.describer import Model, Vector, described
from netvlad_keras.errors import DescriptorsError, RetrievalError

__all__ = [
    *("Described", "Model", "Progress"),
    *("cropped", "describe", "described", "none_described", "opened"),
]

#: Bytes of descriptors that wait for their shard at most.
_SHARD = 8 << 20


class Progress(Protocol):
    """Who wants to know how far it is."""

    def start(self, total: int, done: int) -> None: ...

    def image(self, path: str, fault: str) -> None:
        """One more image; `fault` says why it has no descriptor, `""` if it has."""
        ...


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
    image that could not be read is tried again. Where the engine takes images alone, the file's
    bytes do not depend on how often it was killed. What cannot be described is left out and named.

    Raises `RetrievalError` where no image could be described, `DescriptorsError` where
    `output` is a folder or the parts beside it were made with something else,
    `EnvironmentFailure` where it cannot be written.
    """
    output = results.check_suffix(output)
    if output.is_dir():
        raise DescriptorsError(output, "is a folder", advice="Write to another name.")
    names = {path.as_posix(): path for path in paths}
    asked = sorted(names)
    with shards.opened(output, model.about, restart=restart) as parts:
        faults = results.unfit(output, asked)
        done = parts.done.union(faults)
        left = [names[name] for name in asked if name not in done]
        before = len(asked) - len(left) - len(faults)
        if progress:
            progress.start(len(asked), before)
            for name, fault in faults.items():
                progress.image(name, fault)
        faults |= _kept(model, left, parts, progress, shard)
        merged = parts.merged(asked)
        count = len(merged.paths)
        if not count:
            if not parts.done:
                parts.remove()
            raise RetrievalError(none_described(faults))
        results.write(output, merged, {**model.about, "faults": faults})
        parts.remove()
    return Described(output, count - before, before, faults)


def _kept(
    model: Model,
    left: Sequence[Path],
    parts: shards.Shards,
    progress: Progress | None,
    shard: int,
) -> dict[str, str]:
    """Describe images into `parts`, `shard` at a time. Returns why some could not be."""
    faults: dict[str, str] = {}
    ready: list[tuple[str, Vector]] = []
    for path, vector in described(model, left):
        name = path.as_posix()
        if isinstance(vector, np.ndarray):
            ready.append((name, vector))
        else:
            faults[name] = vector
        if progress:
            progress.image(name, faults.get(name, ""))
        if len(ready) >= shard or sum(each.nbytes for _, each in ready) >= _SHARD:
            _keep(parts, ready)
    _keep(parts, ready)
    return faults


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
