"""Train a small NetVLAD from scratch, on places cut out of pictures: minutes on two cores.

    python examples/train_small.py --out runs/small

Nothing is downloaded: the pictures come with scikit-image and scikit-learn. A place is a window
of a picture; each view of it has its own perspective, light and noise. What is reported, recall@1
of views that were held out, is measured on pictures that neither the training nor the choice of
the epoch has seen. Killed (or stopped with --stop-after), the same command goes on, and ends with
the same weights as a run without a break: their SHA-256 is printed.

Needs the extra `train` and scikit-image.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import skimage
import sklearn
from numpy.typing import NDArray
from PIL import Image

from netvlad_keras import clusters, recall, train_progress
from netvlad_keras.features import described
from netvlad_keras.index import search
from netvlad_keras.mining import Mining
from netvlad_keras.model import NetVLADModel
from netvlad_keras.recipe import Recipe
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trainer import train
from netvlad_keras.trunks import Row, Trunk
from netvlad_keras.tuples import ImageSet, Views

Pixels = NDArray[np.uint8]

#: Which pictures hold the places of which set.
PICTURES = {
    "train": ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png",
              "hubble_deep_field.jpg", "motorcycle_left.png", "rocket.jpg", "china.jpg"),
    "val": ("coins.png", "gravel.png", "camera.png"),
    "test": ("flower.jpg", "ihc.png", "page.png", "retina.jpg"),
}  # fmt: skip

#: Side of a window and of an image in pixels; between two windows; metres of a pixel.
WINDOW, SIDE, STRIDE, METRES = 80, 40, 56, 1.0
#: Metres between two pictures.
APART = 10_000.0

TRUNK: Trunk = (
    Row("conv", "conv1_1", (3, 3), pads=(1, 1, 1, 1), width=16),
    Row("pool", "pool1", (2, 2), (2, 2)),
    Row("relu", "relu1_1"),
    Row("conv", "conv2_1", (3, 3), pads=(1, 1, 1, 1), width=32),
    Row("pool", "pool2", (2, 2), (2, 2)),
    Row("relu", "relu2_1"),
    Row("conv", "conv3_1", (3, 3), pads=(1, 1, 1, 1), width=48),
)
SPEC = NetVLADSpec(trunk=TRUNK, clusters=16, whitening=0, name="")

#: The original's, but for a net that starts from nothing: all its layers, larger steps, a wider
#: margin and fewer negatives to pick the hardest from, or all descriptors become one.
RECIPE = Recipe(
    epochs=30,
    learning_rate=0.005,
    drop_every=10,
    train_from=None,
    renew_every=150,
    feature_batch=64,
    mining=replace(Mining(), margin=0.5, sampled=30, remembered=5, kept=5),
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How much views differ: corners of the window in pixels, light, noise in grey levels."""

    corners: float = 4.0
    gain: float = 0.2
    cast: float = 0.06
    noise: float = 6.0


CONDITIONS = Conditions()


def picture(name: str) -> Pixels:
    """A picture of one of the two packages, RGB."""
    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets")
    paths = [folders[0] / name, folders[1] / "images" / name]
    found = Image.open(next(path for path in paths if path.is_file())).convert("RGB")
    if max(found.size) > 800:
        found.thumbnail((800, 800), Image.Resampling.BILINEAR)
    return np.asarray(found)


def view(
    source: Image.Image, at: NDArray[Any], random: np.random.Generator, how: Conditions
) -> Pixels:
    """The window with its upper left corner `at` (x, y), as somebody may have photographed it."""
    square = np.array([(0, 0), (0, WINDOW), (WINDOW, WINDOW), (WINDOW, 0)], float)
    corners = square + at + random.uniform(-how.corners, how.corners, (4, 2))
    quad = tuple(map(float, corners.ravel()))
    cut = source.transform((SIDE, SIDE), Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
    light = np.exp(random.normal(0, how.gain)) * np.exp(random.normal(0, how.cast, 3))
    gamma = np.exp(random.normal(0, how.gain / 2))
    pixels = 255 * (np.asarray(cut) / 255) ** gamma * light
    pixels += random.normal(0, how.noise, pixels.shape)
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def rendered(
    names: tuple[str, ...], seed: int, most: int | None = None, how: Conditions = CONDITIONS
) -> ImageSet:
    """Each window once for the database, and once, a few metres beside it, as a query."""
    random = np.random.default_rng(seed)
    images: tuple[list[Any], list[Any]] = ([], [])
    positions: tuple[list[Any], list[Any]] = ([], [])
    for number, name in enumerate(names):
        pixels = picture(name)
        height, width = pixels.shape[:2]
        source = Image.fromarray(pixels)
        for y in range(10, height - WINDOW - 10, STRIDE):
            for x in range(10, width - WINDOW - 10, STRIDE):
                angle, distance = random.uniform(0, 2 * np.pi), random.uniform(2, 6)
                beside = distance * np.array([np.cos(angle), np.sin(angle)]) / METRES
                for where, moved in enumerate((np.zeros(2), beside)):
                    at = np.array([x, y]) + moved
                    images[where].append(view(source, at, random, how))
                    positions[where].append(METRES * at + (APART * number, 0))
    database, queries = (
        Views(np.stack(images[i])[:most], np.array(positions[i])[:most]) for i in range(2)
    )
    return ImageSet(database, queries)


def measured(model: keras.Model, images: ImageSet) -> recall.Recall:
    """Recall of a net on a set."""
    database, queries = (
        described(model, views.images, batch=64) for views in (images.database, images.queries)
    )
    ranking = search(database, queries, 10)
    places = images.database.positions, images.queries.positions
    return recall.measured(ranking.indices, *places, images.radius)


def started(images: ImageSet, seed: int) -> NetVLADModel:
    """A net with random filters, and clusters of what they see."""
    keras.utils.set_random_seed(seed)
    model = NetVLADModel(SPEC)
    clusters.initialise(model, clusters.sample(model, images.database.images, seed=seed), seed=seed)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small NetVLAD from scratch.")
    parser.add_argument("--out", type=Path, default=Path("runs/small"), metavar="DIR")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument("--learning-rate", type=float, default=RECIPE.learning_rate)
    parser.add_argument("--places", type=int, metavar="N", help="of each set at most")
    parser.add_argument("--seed", type=int, default=RECIPE.seed)
    parser.add_argument("--stop-after", type=int, metavar="EPOCH")
    options = parser.parse_args()
    recipe = replace(
        RECIPE,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    sets = {
        name: rendered(pictures, options.seed + number, options.places)
        for number, (name, pictures) in enumerate(PICTURES.items())
    }
    print(", ".join(f"{name}: {len(each.queries.images)} places" for name, each in sets.items()))
    model = started(sets["train"], options.seed)
    before = measured(model, sets["test"])
    with train_progress.shown(quiet=False, epochs=recipe.epochs) as watcher:
        rows = train(
            model,
            sets["train"],
            sets["val"],
            options.out,
            replace(recipe, epochs=min(recipe.epochs, options.stop_after or recipe.epochs)),
            watcher=watcher,
        )
    digest = hashlib.sha256(b"".join(np.asarray(w).tobytes() for w in model.get_weights()))
    print(f"weights after epoch {rows[-1]['epoch']:.0f}: sha256 {digest.hexdigest()}")
    if len(rows) <= recipe.epochs:
        return
    best = keras.saving.load_model(options.out / "model.keras")
    after = measured(best, sets["test"])
    print(f"held-out views, chance {100 * before.chance[0]:.2f} %:")
    for name, found in (("starting net", before), ("trained", after)):
        values = (f"recall@{n} {100 * value:.1f} %" for n, value in found.at((1, 5, 10)).items())
        print(f"  {name:12}  {', '.join(values)}")


if __name__ == "__main__":
    main()
