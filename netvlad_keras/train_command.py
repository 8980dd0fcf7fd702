"""What `netvlad-train` does: read, initialise, train, whiten."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from netvlad_keras import clusters, datasets, fingerprint, train_progress, whitening
from netvlad_keras.decoding import Resize
from netvlad_keras.engines.keras import load
from netvlad_keras.errors import TrainingError
from netvlad_keras.features import described
from netvlad_keras.mining import Mining
from netvlad_keras.model import NetVLADModel
from netvlad_keras.recipe import Recipe, Row
from netvlad_keras.resuming import locked
from netvlad_keras.trainer import train
from netvlad_keras.training_folder import BEST, CHECKPOINT, CURVES, WHITE, anew, save
from netvlad_keras.tuples import ImageSet, Photographs, opened

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train as the parsed command line says. Returns what `--json` prints."""
    training, validation = _sets(options)
    out: Path = options.out
    if options.model.resolve() in {(out / name).resolve() for name in (BEST, WHITE)}:
        raise TrainingError(f"{options.model}: the training would write over it: another --out")
    model = load(options.model)
    if options.whiten and model.spec.whitening:
        raise TrainingError(f"{options.model}: has a whitening already")
    if options.whiten:
        count = min(len(training.database.images), whitening.MOST)
        whitening.check(count, model.spec.dimension, options.whiten)
    recipe = _recipe(options, training)
    with (
        locked(out, out),
        anew(out, restart=options.restart),
        train_progress.shown(quiet=options.json, epochs=recipe.epochs) as watcher,
    ):
        rows = _trained(options, model, (training, validation), recipe, watcher)
        is_over = len(rows) > recipe.epochs
        if options.whiten and is_over:
            watcher.say(f"whitening to {options.whiten} dimensions")
            _whiten(load(out / BEST), training, options.whiten, recipe, out / WHITE)
    files = {"model": str(out / BEST), "curves": str(out / CURVES)}
    if options.whiten and is_over:
        files["white"] = str(out / WHITE)
    return {"finished": is_over, "curves": [dict(row) for row in rows], "files": files}


def _trained(
    options: argparse.Namespace,
    model: NetVLADModel,
    sets: tuple[ImageSet, ImageSet],
    recipe: Recipe,
    watcher: train_progress.Lines,
) -> tuple[Row, ...]:
    training, validation = sets
    start = fingerprint.of_arrays(model.get_weights())
    if options.clusters and not (options.out / CHECKPOINT).exists():
        local = clusters.sample(model, training.database.images, seed=recipe.seed)
        watcher.say(f"clusters of {len(local)} local descriptors")
        clusters.initialise(model, local, seed=recipe.seed)
    recipe = replace(recipe, epochs=min(recipe.epochs, options.stop_after or recipe.epochs))
    return train(model, training, validation, options.out, recipe, watcher=watcher, start=start)


def _sets(options: argparse.Namespace) -> tuple[ImageSet, ImageSet]:
    def read(path: Path, split: str) -> datasets.Dataset:
        return datasets.read(
            path, split=split, images=options.images, query_images=options.query_images
        )

    training = read(options.dataset, "train")
    validation = read(options.validation or options.dataset, "val")
    if not options.validation and validation.queries.paths == training.queries.paths:
        raise TrainingError(
            f"{options.dataset}: has no split val, and the images to train on measure nothing",
            advice="Name a dataset by --validation.",
        )
    resize = Resize(options.size, options.shorter_side)
    return opened(training, resize), opened(validation, resize)


def _recipe(options: argparse.Namespace, training: ImageSet) -> Recipe:
    return Recipe(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate,
        train_from=None if options.train_from == "all" else options.train_from,
        renew_every=options.renew_every,
        mining=Mining(
            margin=options.margin, positive_to=training.near, negative_above=training.radius
        ),
        seed=options.seed,
    )


def _whiten(
    model: keras.Model, training: ImageSet, dimension: int, recipe: Recipe, path: Path
) -> None:
    """As the original: on images of the training database, 10,000 of them at most."""
    images = training.database.images
    if isinstance(images, Photographs) and len(images) > whitening.MOST:
        random = np.random.default_rng(recipe.seed)
        drawn = np.sort(random.choice(len(images), whitening.MOST, replace=False))
        images = images.part(drawn)
    found = described(model, images, batch=recipe.feature_batch)
    save(whitening.fit(model, found, dimension), path)
