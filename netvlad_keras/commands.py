"""What the commands of `netvlad-describe` do; `__main__` reads their arguments."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_keras import (
    cluster,
    curve,
    datasets,
    describe,
    describer,
    picture,
    progress,
    recall,
    results,
)
from netvlad_keras.decoding import Resize, listed
from netvlad_keras.errors import DescriptorsError, RetrievalError
from netvlad_keras.index import search as nearest
from netvlad_keras.results import Descriptors, replacing

__all__ = ["run_describe", "run_evaluate", "run_search"]

#: What fits into one picture that a person looks at.
_ROWS, _COLUMNS = 25, 10


def run_describe(options: argparse.Namespace) -> dict[str, Any]:
    """Images -> a file of descriptors."""
    output = results.check_suffix(options.output)
    paths = listed(options.images)
    if options.engine == "ray":
        made = _on_a_cluster(options, paths, output)
    else:
        made = _described(options, _model(options), paths, output)
    if not options.json:
        print(f"{made.new + made.before} images described{_left_out(made.faults)}; {output}")
    return {
        "output": str(output),
        "described": made.new,
        "described_before": made.before,
        "faults": dict(made.faults),
    }


def run_search(options: argparse.Namespace) -> dict[str, Any]:
    """Queries -> their nearest images, printed and as a picture."""
    if not options.model and not (_is_file(options.database) and _is_file(options.query[0])):
        raise RetrievalError("images are given, and no --model to describe them")
    model = _model(options) if options.model else None
    with tempfile.TemporaryDirectory() as folder:
        database = _descriptors(options, model, [options.database], Path(folder) / "database.npz")
        queries = _descriptors(options, model, options.query, Path(folder) / "query.npz")
    _check_alike(options.database, database, queries)
    found = _ranked(database, queries, options.top)
    faults = {path: why for each in (database, queries) for path, why in _faults(each).items()}
    if options.picture:
        rows = [picture.Found(row.query, row.matches[:_COLUMNS]) for row in found[:_ROWS]]
        picture.draw(rows, options.picture)
    if not options.json:
        _print(found)
        drawn = f"; {options.picture}" if options.picture else ""
        print(f"{len(found)} queries, {len(database.paths)} images{_left_out(faults)}{drawn}")
    matches = [
        {
            "query": str(row.query),
            "matches": [{"path": str(path), "distance": l2} for path, l2 in row.matches],
        }
        for row in found
    ]
    where = str(options.picture) if options.picture else None
    return {"queries": matches, "picture": where, "faults": faults}


def run_evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """A dataset -> recall@N, as JSON and as a curve."""
    dataset = datasets.read(
        options.dataset,
        split=options.split,
        images=options.images,
        query_images=options.query_images,
        radius=options.radius,
    )
    model = _model(options)
    described = []
    for name, places in (("database", dataset.database), ("queries", dataset.queries)):
        file = options.out / f"{name}.npz"
        described.append(_kept(options, model, places, file) or _anew(options, model, places, file))
    database, queries = described
    ranking = nearest(database.vectors, queries.vectors, max(recall.AT))
    found = recall.measured(
        ranking.indices,
        _positions(dataset.database, database),
        _positions(dataset.queries, queries),
        dataset.radius,
    )
    faults = {path: why for each in described for path, why in _faults(each).items()}
    result = {**found.to_dict(), "radius": dataset.radius, "model": dict(model.about)}
    result |= {"faults": faults}
    with replacing(options.out / "recall.json") as draft:
        draft.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    curve.draw(found, options.out / "recall.png", f"{options.dataset.name}, {options.model.name}")
    if not options.json:
        _print_recall(found)
        print(
            f"{found.queries} queries, {found.database} images, {dataset.radius:g} m"
            f"{_left_out(faults)}; {options.out / 'recall.json'}, {options.out / 'recall.png'}"
        )
    return result


def _model(options: argparse.Namespace) -> describer.Model:
    resize = Resize(options.size, options.shorter_side, options.longer_side)
    return describer.opened(
        options.model,
        resize=resize,
        dimension=options.dim,
        batch=options.batch,
        jobs=options.jobs,
    )


def _described(
    options: argparse.Namespace, model: describer.Model, paths: Sequence[Path], output: Path
) -> describe.Described:
    with progress.shown(output.stem, quiet=options.json) as shown:
        return describe.describe(
            model,
            paths,
            output,
            shown,
            shard=options.shard,
            restart=options.restart,
        )


def _on_a_cluster(
    options: argparse.Namespace, paths: Sequence[Path], output: Path
) -> describe.Described:
    resize = Resize(options.size, options.shorter_side, options.longer_side)
    with progress.shown(output.stem, quiet=options.json) as shown:
        return cluster.describe(
            cluster.Settings(options.model, resize, options.dim, options.batch, options.jobs),
            cluster.Cluster(options.address, options.workers),
            paths,
            output,
            shown,
            shard=options.shard,
            restart=options.restart,
        )


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
    if model is None:
        raise RetrievalError("images are given, and no --model to describe them")
    _described(options, model, listed(places), output)
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
    """An image is not found by itself."""
    ranking = nearest(database.vectors, queries.vectors, top + 1)
    same = {Path(path).resolve(): at for at, path in enumerate(database.paths)}
    found = []
    for query, indices, squared in zip(
        queries.paths, ranking.indices, ranking.distances, strict=True
    ):
        own = same.get(Path(query).resolve(), -1)
        pairs = [(i, d) for i, d in zip(indices, squared, strict=True) if i != own][:top]
        matches = [(Path(database.paths[i]), float(np.sqrt(d))) for i, d in pairs]
        found.append(picture.Found(Path(query), matches))
    return found


def _kept(
    options: argparse.Namespace, model: describer.Model, places: datasets.Places, file: Path
) -> Descriptors | None:
    """What an earlier evaluation described, if it is of the same model and images."""
    if options.restart or not file.exists():
        return None
    kept = results.read(file)
    if {**kept.about, "faults": None} != {**model.about, "faults": None}:
        return None
    named = {*kept.paths, *_faults(kept)}
    if named != {path.as_posix() for path in places.paths}:
        return None
    if not options.json:
        print(f"{file}: kept from an earlier run (--restart describes again)", file=sys.stderr)
    return kept


def _anew(
    options: argparse.Namespace, model: describer.Model, places: datasets.Places, file: Path
) -> Descriptors:
    _described(options, model, places.paths, file)
    return results.read(file)


def _positions(places: datasets.Places, described: Descriptors) -> Any:
    """Of the images that have a descriptor, in their order."""
    at = {path.as_posix(): row for row, path in enumerate(places.paths)}
    return places.positions[[at[path] for path in described.paths]]


def _faults(descriptors: Descriptors) -> Mapping[str, str]:
    return dict(descriptors.about.get("faults", {}))


def _left_out(faults: Mapping[str, str]) -> str:
    if not faults:
        return ""
    names = ", ".join(list(faults)[:5]) + (", …" if len(faults) > 5 else "")
    return f", {len(faults)} LEFT OUT ({names})"


def _print(found: Sequence[picture.Found]) -> None:
    for row in found:
        print(row.query)
        for rank, (path, distance) in enumerate(row.matches, start=1):
            print(f"{rank:5}  {distance:.4f}  {path}")


def _print_recall(found: recall.Recall) -> None:
    chance = found.chance
    for n, value in found.at().items():
        print(f"recall@{n:<3} {100 * value:6.2f} %   chance {100 * chance[n - 1]:.2f} %")
    if found.lonely:
        print(f"{found.lonely} queries have no image of the database near them: always missed")
    if found.at_chance:
        print(
            "warning: recall@1 cannot be told from chance. Do descriptors, images and positions "
            "belong together?",
            file=sys.stderr,
        )
