"""A folder of `.parquet` shards, and the manifest that names them (`netvlad_keras.resuming`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import DescriptorsError
from netvlad_keras.results import parquet
from netvlad_keras.resuming import MANIFEST

__all__ = ["names", "read"]


def read(path: Path) -> tuple[list[str], NDArray[np.float32], dict[str, Any]]:
    """Paths, float32 [N, D] and what the manifest says; a shard that it does not name is none."""
    manifest = _manifest(path)
    paths: list[str] = []
    blocks: list[NDArray[np.float32]] = []
    for name in manifest["shards"]:
        names, vectors, _ = parquet.read(path / name)
        paths += names
        blocks.append(vectors)
    about = {**manifest["about"], "faults": manifest.get("faults", {})}
    return paths, np.concatenate(blocks), about


def names(path: Path) -> list[str]:
    """The paths alone."""
    return [name for shard in _manifest(path)["shards"] for name in parquet.names(path / shard)]


def _manifest(path: Path) -> dict[str, Any]:
    if not (path / MANIFEST).is_file():
        raise DescriptorsError(path, f"is no folder of descriptors: it has no {MANIFEST}")
    found: dict[str, Any] = json.loads((path / MANIFEST).read_text("utf-8"))
    if not found.get("complete"):
        advice = "The describe command that began it goes on from there."
        raise DescriptorsError(path, "is not finished: images are missing", advice=advice)
    return found
