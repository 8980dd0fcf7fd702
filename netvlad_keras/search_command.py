"""`netvlad-describe search`: queries -> their nearest images, printed and as a picture."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_keras import describe_command, describer, picture, results
from netvlad_keras.decoding import listed
from netvlad_keras.describe_command import left_out
from netvlad_keras.errors import DescriptorsError, RetrievalError
from netvlad_keras.index import search as nearest
from netvlad_keras.results import Descriptors

__all__ = ["run"]

#: What fits into one picture that a person looks at.
_ROWS, _COLUMNS = 25, 10


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Search as the parsed command line says. Returns what `--json` prints."""
    _check(options)
    model = describe_command.model(options) if options.model else None
    with tempfile.TemporaryDirectory() as folder:
        database = _descriptors(options, model, [options.database], Path(folder) / "database.npz")
        queries = _descriptors(options, model, options.query, Path(folder) / "query.npz")
    _check_alike(options.database, database, queries)
    found = _ranked(database, queries, options.top)
    faults = {path: why for each in (database, queries) for path, why in each.faults.items()}
    if not options.json:
        _print(found)
    if options.picture:
        rows = [picture.Found(row.query, row.matches[:_COLUMNS]) for row in found[:_ROWS]]
        picture.draw(rows, options.picture)
    if not options.json:
        drawn = f"; {options.picture}" if options.picture else ""
        print(f"{len(found)} queries, {len(database.paths)} images{left_out(faults)}{drawn}")
    matches = [
        {
            "query": str(row.query),
            "matches": [{"path": str(path), "distance": l2} for path, l2 in row.matches],
        }
        for row in found
    ]
    where = str(options.picture) if options.picture else None
    return {"queries": matches, "picture": where, "faults": faults}


def _check(options: argparse.Namespace) -> None:
    """Raise `RetrievalError` for what does not go together, before anything is described."""
    describes = not all(map(_is_file, (options.database, *options.query)))
    if describes and not options.model:
        raise RetrievalError("images are given, and no --model to describe them")
    if len(options.query) > 1 and any(map(_is_file, options.query)):
        raise RetrievalError("--query is images, or one file of descriptors")
    given = (options.dim, options.size, options.shorter_side, options.longer_side)
    if not describes and any(given):
        raise RetrievalError(
            "--dim and the sizes say how images are described, and only descriptors are given"
        )
    if options.picture:
        picture.check(options.picture)


def _is_file(path: Path) -> bool:
    """Whether it holds descriptors already."""
    return path.suffix.lower() in results.SUFFIXES


def _descriptors(
    options: argparse.Namespace,
    model: describer.Model | None,
    places: Sequence[Path],
    output: Path,
) -> Descriptors:
    """Of a file that `describe` wrote, or of images that are described now."""
    if len(places) == 1 and _is_file(places[0]):
        return results.read(places[0])
    assert model is not None
    describe_command.described(options, model, listed(places), output)
    return results.read(output)


def _check_alike(file: Path, database: Descriptors, queries: Descriptors) -> None:
    one, other = database.about, queries.about
    keys = ("sha256", "dimension", "resize") if one and other else ()  # a file of others has none
    differing = [key for key in keys if one.get(key) != other.get(key)]
    if differing or database.vectors.shape[1] != queries.vectors.shape[1]:
        what = ", ".join(differing or ["dimension"])
        reason = f"was described in another way than the queries: {what}"
        raise DescriptorsError(file, reason, advice="Describe both with one model and one size.")


def _ranked(database: Descriptors, queries: Descriptors, top: int) -> list[picture.Found]:
    """An image is not found by itself, under whatever name."""
    same: dict[str, set[int]] = {}
    for at, path in enumerate(database.paths):
        same.setdefault(os.path.realpath(path), set()).add(at)
    most = max(map(len, same.values()))
    ranking = nearest(database.vectors, queries.vectors, top + most)
    found = []
    for query, indices, squared in zip(
        queries.paths, ranking.indices, ranking.distances, strict=True
    ):
        own = same.get(os.path.realpath(query), set())
        pairs = [(i, d) for i, d in zip(indices, squared, strict=True) if i not in own][:top]
        matches = [(Path(database.paths[i]), float(np.sqrt(d))) for i, d in pairs]
        found.append(picture.Found(Path(query), matches))
    return found


def _print(found: Sequence[picture.Found]) -> None:
    for row in found:
        print(row.query)
        for rank, (path, distance) in enumerate(row.matches, start=1):
            print(f"{rank:5}  {distance:.4f}  {path}")
