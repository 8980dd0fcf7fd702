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
from netvlad_keras.training_folder import BEST, CHECKPOINT, CURVES, WHITE, forget, save
from netvlad_keras.tuples import ImageSet, Photographs, opened

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train as the parsed command line says. Returns what `--json` prints."""
    training = _images(options, options.dataset, "train")
    validation = _images(options, options.validation or options.dataset, "val")
    model = load(options.model)
    if options.whiten and model.spec.whitening:
        raise TrainingError(f"{options.model}: has a whitening already")
    if options.whiten:
        count = min(len(training.database.images), whitening.MOST)
        whitening.check(count, model.spec.dimension, options.whiten)
    recipe = _recipe(options)
    out: Path = options.out
    with (
        locked(out, out),
        train_progress.shown(quiet=options.json, epochs=recipe.epochs) as watcher,
    ):
        if options.restart:
            forget(out)
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


def _images(options: argparse.Namespace, path: Path, split: str) -> ImageSet:
    dataset = datasets.read(
        path, split=split, images=options.images, query_images=options.query_images
    )
    return opened(dataset, Resize(options.size, options.shorter_side))


def _recipe(options: argparse.Namespace) -> Recipe:
    return Recipe(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate,
        train_from=None if options.train_from == "all" else options.train_from,
        renew_every=options.renew_every,
        mining=Mining(margin=options.margin),
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
