"""`netvlad-describe evaluate`: a dataset -> recall@N, as JSON and as a curve."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from netvlad_keras import curve, datasets, describe_command, describer, recall, results
from netvlad_keras.describe_command import left_out
from netvlad_keras.index import search as nearest
from netvlad_keras.results import Descriptors, replacing
from netvlad_keras.resuming import changed_since

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate as the parsed command line says. Returns what `--json` prints."""
    dataset = datasets.read(
        options.dataset,
        split=options.split,
        images=options.images,
        query_images=options.query_images,
        radius=options.radius,
    )
    model = describe_command.model(options)
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
    faults = {path: why for each in described for path, why in each.faults.items()}
    result = {**found.to_dict(), "radius": dataset.radius, "model": dict(model.about)}
    result |= {"faults": faults}
    with replacing(options.out / "recall.json", shared=True) as draft:
        draft.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    curve.draw(found, options.out / "recall.png", f"{options.dataset.name}, {options.model.name}")
    if not options.json:
        _print_recall(found)
        print(
            f"{found.queries} queries, {found.database} images, {dataset.radius:g} m"
            f"{left_out(faults)}; {options.out / 'recall.json'}, {options.out / 'recall.png'}"
        )
    return result


def _kept(
    options: argparse.Namespace, model: describer.Model, places: datasets.Places, file: Path
) -> Descriptors | None:
    """What an earlier evaluation described, if it is of the same model and the same images."""
    if options.restart or not file.exists():
        return None
    kept = results.read(file)
    if {**kept.about, "faults": None} != {**model.about, "faults": None}:
        return None
    if {*kept.paths, *kept.faults} != {path.as_posix() for path in places.paths}:
        return None
    if any(changed_since(file, path) for path in places.paths):
        return None
    if not options.json:
        print(f"{file}: kept from an earlier run (--restart describes again)", file=sys.stderr)
    return kept


def _anew(
    options: argparse.Namespace, model: describer.Model, places: datasets.Places, file: Path
) -> Descriptors:
    describe_command.described(options, model, places.paths, file)
    return results.read(file)


def _positions(places: datasets.Places, described: Descriptors) -> Any:
    """Of the images that have a descriptor, in their order."""
    at = {path.as_posix(): row for row, path in enumerate(places.paths)}
    return places.positions[[at[path] for path in described.paths]]


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
