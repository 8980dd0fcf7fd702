"""A folder that a conversion made: its manifest, its files, and where its source is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from converters.errors import EnvironmentFailure, ReadError
from verify.manifest import MANIFEST, fault

__all__ = ["MANIFEST", "Folder", "open_folder"]

#: Best first: only a MatConvNet file holds its layers.
_ENDINGS = (".mat", ".index", ".keras", ".h5")


@dataclass(frozen=True, slots=True)
class Folder:
    """What is there.

    artifacts  files and folders of the manifest, each once, in its order.
    sources    the source's files that are there, a TF checkpoint by its prefix.
    hashes     file -> what is wrong with it; empty if all are as the manifest says.
    """

    path: Path
    manifest: Mapping[str, Any]
    artifacts: tuple[Path, ...]
    sources: tuple[Path, ...]
    hashes: Mapping[str, str]


def open_folder(path: Path) -> Folder:
    """Read a folder's manifest and compare every checksum, the source's too.

    Raises `ReadError` for a folder without a manifest, `EnvironmentFailure`
    where a file of the source is not there.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        files = manifest["files"]
        artifacts = dict.fromkeys(
            path / name.split("/")[0] for name, facts in files.items() if facts["format"] != "text"
        )
        sources = {_located(entry["path"], path): entry for entry in manifest["source"]["files"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(
            path / MANIFEST,
            f"not a conversion's manifest ({error})",
            advice="give a folder that convert made, or check --reference SOURCE ARTIFACT...",
        ) from error
    missing = [str(file) for file in sources if not file.is_file()]
    if missing or not sources:
        raise EnvironmentFailure(
            f"{path}: its source is not there: {', '.join(missing) or 'none is named'}",
            advice="run the conversion again, or name it: check --reference SOURCE ARTIFACT...",
        )
    hashes = {name: wrong for name, facts in files.items() if (wrong := fault(path / name, facts))}
    for file, entry in sources.items():
        if wrong := fault(file, entry):
            hashes[f"source {file.name}"] = wrong
    return Folder(path, manifest, tuple(artifacts), _readable(tuple(sources)), hashes)


def _located(name: str, folder: Path) -> Path:
    """A path of the manifest: relative to its folder, or a key of the cache."""
    if not name.startswith("cache:"):
        return (folder / name).resolve()
    named = os.environ.get("NETVLAD_KERAS_CACHE")
    root = Path(named).expanduser() if named else platformdirs.user_cache_path("netvlad-keras")
    return root / name.removeprefix("cache:")


def _readable(files: tuple[Path, ...]) -> tuple[Path, ...]:
    """What a reader can be given, best first; of a checkpoint the prefix."""
    found = [file for ending in _ENDINGS for file in files if file.suffix == ending]
    return tuple(file.with_suffix("") if file.suffix == ".index" else file for file in found)
