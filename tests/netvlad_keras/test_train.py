"""Training a tiny net: kept, killed and resumed, refused, and by the command line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from converters.readers import keras_h5
from netvlad_keras import clusters, train_progress
from netvlad_keras.errors import EnvironmentFailure, TrainingError
from netvlad_keras.layers import L2Normalization, NetVLAD, WholeL2Normalization
from netvlad_keras.mining import Mining, Tuple
from netvlad_keras.model import NetVLADModel
from netvlad_keras.optimisation import MomentumDescent, freeze
from netvlad_keras.recipe import Recipe
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.train import main
from netvlad_keras.trainer import train
from netvlad_keras.tuples import ImageSet, Photographs, Tuples, Views

Array = NDArray[Any]

NAME = "mini_offtheshelf_conv2_1_vlad_preL2_intra"
RECIPE = Recipe(
    epochs=3,
    learning_rate=0.02,
    drop_every=2,
    train_from=None,
    renew_every=8,
    mining=Mining(margin=0.5, sampled=5, remembered=2, searched=4, kept=3),
)


def _set(count: int, seed: int) -> ImageSet:
    """Places 100 m apart, seen twice, 3 m from each other."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 256, (count, 12, 12, 3))
    east = 100.0 * np.arange(count)

    def views(north: float) -> Views:
        noisy = np.clip(places + rng.normal(0, 40, places.shape), 0, 255).astype(np.uint8)
        return Views(noisy, np.stack([east, np.full(count, north)], axis=1))

    return ImageSet(views(0), views(3))


TRAINING, VALIDATION = _set(18, 1), _set(8, 2)


def _model(name: str = NAME, *, initialised: bool = True) -> NetVLADModel:
    keras.utils.set_random_seed(3)
    model = NetVLADModel(replace(NetVLADSpec.from_name(name), clusters=4))
    if initialised:
        clusters.initialise(model, clusters.sample(model, TRAINING.database.images))
    return model


class _Seen:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, float]] = []
        self.steps: list[tuple[int, str, int, int]] = []

    def step(self, epoch: int, what: str, done: int, total: int) -> None:
        self.steps.append((epoch, what, done, total))

    def ended(self, row: Mapping[str, float]) -> None:
        self.rows.append(row)


# Refusals.


def test_clusters_that_were_never_initialised(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"never initialised[\s\S]*clusters\.initialise"):
        train(_model(initialised=False), TRAINING, VALIDATION, tmp_path, RECIPE)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_clusters_of_a_model_within_the_model(tmp_path: Path) -> None:
    images = keras.Input((None, None, 3))
    model = keras.Model(images, _model(initialised=False)(images + 0.0))
    with pytest.raises(TrainingError, match="never initialised"):
        train(model, TRAINING, VALIDATION, tmp_path, replace(RECIPE, train_from=None))
    with pytest.raises(TrainingError, match="within the model"):
        clusters.sample(model, TRAINING.database.images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(epochs=0, seed=-1), "no recipe can have epochs 0, seed -1"),
        (lambda: Recipe(learning_rate=float("nan")), "learning_rate nan"),
        (lambda: Recipe(momentum=1.0), "momentum 1.0"),
        (lambda: Mining(positive_to=0.5), "no mining can have positive_to 0.5"),
        (lambda: Mining(margin=float("inf"), kept=0), "margin inf, kept 0"),
    ],
)
def test_numbers_that_mean_nothing(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make()


def test_a_training_that_diverges_is_said(tmp_path: Path) -> None:
    """The checkpoint before it stays."""
    start = _model()
    weights = start.get_weights()
    with pytest.raises(TrainingError, match=r"epoch 1, .*NaN or infinity[\s\S]*diverges"):
        train(start, TRAINING, VALIDATION, tmp_path, replace(RECIPE, learning_rate=1e30))
    with np.load(tmp_path / "checkpoint.npz") as file:
        found = [file[name] for name in sorted(file.files) if name.startswith("model/")]
    for one, other in zip(found, weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_net_that_no_checkpoint_goes_with_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"somebody's")
    with pytest.raises(TrainingError, match="no checkpoint of its training"):
        train(_model(), TRAINING, VALIDATION, tmp_path, RECIPE)
    assert (tmp_path / "model.keras").read_bytes() == b"somebody's"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 19}, "18 queries are less than one batch of 19"),
        ({"mining": Mining(positive_to=2.0)}, "no query has a positive between 1.0 and 2.0"),
        ({"train_from": "conv9"}, "no layer 'conv9' to train from: image, input, conv1_1"),
    ],
)
def test_nothing_to_train_with(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        train(_model(), TRAINING, VALIDATION, tmp_path, replace(RECIPE, **change))


def test_images_of_several_sizes(tmp_path: Path) -> None:
    images = [TRAINING.queries.images[number] for number in range(18)]
    images[5] = np.zeros((12, 14, 3), np.uint8)
    queries = Views(images, TRAINING.queries.positions)
    with pytest.raises(TrainingError, match="12×14 and of 12×12"):
        train(_model(), replace(TRAINING, queries=queries), VALIDATION, tmp_path, RECIPE)
    batches = Tuples([[Tuple(5, 0, (1,))]], TRAINING.database.images, images)
    with pytest.raises(TrainingError, match="12×12, 12×14"):
        batches[0]


def test_images_and_positions_that_do_not_match() -> None:
    with pytest.raises(TrainingError, match="8 images"):
        Views(VALIDATION.queries.images, TRAINING.queries.positions)


# Training.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NetVLADModel, _Seen]:
    """Three epochs without a break."""
    folder, model, seen = tmp_path_factory.mktemp("whole"), _model(), _Seen()
    train(model, TRAINING, VALIDATION, folder, RECIPE, watcher=seen)
    return folder, model, seen


def test_a_stopped_training_goes_on_to_the_same_weights(
    whole: tuple[Path, NetVLADModel, _Seen], tmp_path: Path
) -> None:
    folder, model, _ = whole
    rows = train(_model(), TRAINING, VALIDATION, tmp_path, replace(RECIPE, epochs=1))
    assert [row["epoch"] for row in rows] == [0, 1]
    (tmp_path / ".checkpoint.npz.part").write_bytes(b"half of it")  # a kill left this
    other = _model(initialised=False)  # the checkpoint brings the clusters
    train(other, TRAINING, VALIDATION, tmp_path, RECIPE)
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (tmp_path / "curves.csv").read_text() == (folder / "curves.csv").read_text()
    start = _model().get_weights()
    moved = [not np.array_equal(a, b) for a, b in zip(start, model.get_weights(), strict=True)]
    assert sum(moved) == len(moved) - 1  # all but the mean


def test_curves_and_the_best_epoch(whole: tuple[Path, NetVLADModel, _Seen]) -> None:
    folder, _, seen = whole
    with (folder / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["learning_rate"] for row in rows] == ["", "0.02", "0.02", "0.01"]
    assert all(0 < float(row["active"]) <= 1 for row in rows[1:])
    best = max(rows[1:], key=lambda row: float(row["recall@5"]))
    assert float(best["recall@1"]) == seen.rows[int(best["epoch"])]["recall@1"]
    model = keras.saving.load_model(folder / "model.keras")
    database, queries = (
        model.predict(views.images, verbose=0)
        for views in (VALIDATION.database, VALIDATION.queries)
    )
    distances = ((queries[:, None] - database) ** 2).sum(axis=2)
    first = float((distances.argmin(axis=1) == np.arange(8)).mean())
    assert first == float(best["recall@1"])


def test_what_a_watcher_is_told(whole: tuple[Path, NetVLADModel, _Seen]) -> None:
    """Features are renewed every 2 batches of 4, but for the last; then every 4."""
    _, _, seen = whole
    mined = [epoch for epoch, what, done, total in seen.steps if what == "mining" and done == total]
    assert mined == [1, 1, 2, 2, 3]
    assert (1, "validation", 16, 16) in seen.steps
    assert all(done <= total == 4 for _, what, done, total in seen.steps if what == "training")


def test_the_trained_net_goes_through_convert(whole: tuple[Path, NetVLADModel, _Seen]) -> None:
    checkpoint = keras_h5.read(whole[0] / "model.keras")
    assert set(checkpoint.tensors) == set(_model().spec.weight_shapes)
    assert checkpoint.preprocessing["spec"] == _model().spec.to_dict()


class _Lazy:
    """Images of no kind that is known."""

    def __init__(self, pixels: Array) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Array:
        return np.asarray(self._pixels[index])


def test_a_checkpoint_of_another_training(
    whole: tuple[Path, NetVLADModel, _Seen], tmp_path: Path
) -> None:
    folder = whole[0]
    for recipe, images in ((replace(RECIPE, seed=1), TRAINING), (RECIPE, _set(17, 1))):
        with pytest.raises(TrainingError, match=r"another (recipe|positions)"):
            train(_model(), images, VALIDATION, folder, recipe)
    pixels = np.array(TRAINING.database.images)
    pixels[17, 11, 11, 2] ^= 1
    for found in (pixels, list(pixels), _Lazy(pixels)):
        database = Views(found, TRAINING.database.positions)
        with pytest.raises(TrainingError, match="another images"):
            train(_model(), replace(TRAINING, database=database), VALIDATION, folder, RECIPE)
    with pytest.raises(TrainingError, match="another first model"):
        train(_model(), TRAINING, VALIDATION, folder, RECIPE, start="elsewhere")
    with pytest.raises(TrainingError, match="of another model"):
        train(_model(NAME.replace("vlad", "vladv2")), TRAINING, VALIDATION, folder, RECIPE)
    (tmp_path / "checkpoint.npz").write_bytes((folder / "checkpoint.npz").read_bytes()[:-100])
    with pytest.raises(TrainingError, match="damaged"):
        train(_model(), TRAINING, VALIDATION, tmp_path, RECIPE)
    with FileLock(folder / ".lock"), pytest.raises(EnvironmentFailure, match="another run"):
        train(_model(), TRAINING, VALIDATION, folder, RECIPE)


def test_fewer_images_than_recall_at_5_needs(tmp_path: Path) -> None:
    """The epoch with the best recall@1 is kept, then."""
    model, weights = _model(), []

    class Keep(_Seen):
        def ended(self, row: Mapping[str, float]) -> None:
            super().ended(row)
            weights.append(model.get_weights())

    seen = Keep()
    train(model, TRAINING, _set(4, 5), tmp_path, replace(RECIPE, learning_rate=0.5), watcher=seen)
    recalls = [row["recall@1"] for row in seen.rows]
    best = 1 + int(np.argmax(recalls[1:]))
    assert best > 1
    kept = keras.saving.load_model(tmp_path / "model.keras").get_weights()
    for found, expected in zip(kept, weights[best], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_every_number_of_the_descent_counts(tmp_path: Path) -> None:
    """The rate of each epoch, halved after two; momentum and decay."""
    model, rates = _model(), list[tuple[int, float]]()

    class Rates(_Seen):
        def step(self, epoch: int, what: str, done: int, total: int) -> None:
            if what == "training":
                rates.append((epoch, round(float(model.optimizer.learning_rate), 6)))

    recipe = replace(RECIPE, momentum=0.7, decay=0.03)
    train(model, TRAINING, VALIDATION, tmp_path, recipe, watcher=Rates())
    assert set(rates) == {(1, 0.02), (2, 0.02), (3, 0.01)}
    config = model.optimizer.get_config()
    assert (config["momentum"], config["decay"]) == (0.7, 0.03)


def test_no_active_triplet_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = replace(RECIPE, epochs=1, mining=replace(RECIPE.mining, margin=-4.0))
    model = _model()
    start = model.get_weights()
    rows = train(model, TRAINING, VALIDATION, tmp_path, recipe, watcher=train_progress.Lines())
    assert rows[1]["active"] == 0
    assert "active triplets 0.0 %\nwarning: no triplet was active" in capsys.readouterr().err
    for found, expected in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(found, expected)


def _numbers(model: NetVLADModel) -> dict[str, Array]:
    return {
        name: keras.ops.convert_to_numpy(variable)
        for name, variable in model.canonical_weights.items()
    }


def test_freezing(tmp_path: Path) -> None:
    model = _model()
    start = _numbers(model)
    recipe = replace(RECIPE, epochs=1, train_from="conv2_1")
    train(model, TRAINING, VALIDATION, tmp_path, recipe)
    moved = {name for name, value in _numbers(model).items() if (value != start[name]).any()}
    assert moved == {
        "conv2_1/kernel", "conv2_1/bias", "vlad:core/assignment", "vlad:core/centers",
    }  # fmt: skip
    freeze(model, None)
    assert len(model.trainable_variables) == len(start) - 1


def test_a_backbone_of_ones_own(tmp_path: Path) -> None:
    keras.utils.set_random_seed(5)
    images = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(6, 3, activation="relu")(images / 255.0)
    outputs = WholeL2Normalization()(NetVLAD(3)(L2Normalization()(features)))
    model = keras.Model(images, outputs)
    clusters.initialise(model, clusters.sample(model, TRAINING.database.images))
    rows = train(model, TRAINING, VALIDATION, tmp_path, replace(RECIPE, epochs=1))
    assert rows[1]["active"] > 0
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    pixels = VALIDATION.queries.images
    np.testing.assert_array_equal(
        loaded.predict(pixels, verbose=0), model.predict(pixels, verbose=0)
    )


def test_the_lines_of_the_tutorial() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    (code,) = (
        each for each in re.findall(r"```python\n(.*?)```", text, re.S) if "backbone" in each
    )
    assert len(code.strip().splitlines()) <= 10
    names: dict[str, Any] = {}
    exec(compile(code, "training.md", "exec"), names)
    images = np.zeros((1, 64, 64, 3), np.float32)
    assert names["model"].predict(images, verbose=0).shape == (1, 64 * 1280)


# The step.


def test_the_step_is_matconvnets() -> None:
    """v ← 0.9 v - 0.1 w - g, w ← w + rate · v; a new rate counts at once; no step for zeros."""
    variable = keras.Variable([2.0])
    descent = MomentumDescent(0.5, momentum=0.9, decay=0.1)
    descent.apply([tf.constant([1.0])], [variable])
    velocity = -0.1 * 2 - 1
    expected = 2 + 0.5 * velocity
    np.testing.assert_allclose(variable.numpy(), [expected], rtol=1e-6)
    descent.apply([tf.constant([0.0])], [variable])
    np.testing.assert_allclose(variable.numpy(), [expected], rtol=1e-6)
    descent.learning_rate = 0.25
    descent.apply([tf.constant([-1.0])], [variable])
    velocity = 0.9 * velocity - 0.1 * expected + 1
    np.testing.assert_allclose(variable.numpy(), [expected + 0.25 * velocity], rtol=1e-6)


# The command line.


def _write(folder: Path, views: ImageSet) -> None:
    for name, part in (("database", views.database), ("queries", views.queries)):
        (folder / name).mkdir(parents=True)
        for number, (east, north) in enumerate(part.positions):
            pixels = Image.fromarray(part.images[number])
            pixels.save(folder / name / f"@{east:.1f}@{north:.1f}@{number}@.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "set" / "images" / "train", _set(10, 1))
    _write(tmp_path / "set" / "images" / "val", _set(4, 2))
    _model(initialised=False).save(tmp_path / "start.keras")
    return tmp_path


def _arguments(folder: Path, *more: str) -> list[str]:
    paths = [
        str(folder / "set"),
        "--model",
        str(folder / "start.keras"),
        "--out",
        str(folder / "out"),
    ]
    return [*paths, "--train-from", "conv2_1", "--epochs", "2", *more]


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_arguments(folder)) == 1
    assert "never initialised" in capsys.readouterr().err
    assert main(_arguments(folder, "--clusters", "--whiten", "4", "--stop-after", "1")) == 0
    assert not (folder / "out" / "model_white.keras").exists()
    capsys.readouterr()
    assert main(_arguments(folder, "--clusters", "--whiten", "4", "--json")) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["epoch"] for row in result["curves"]] == [0, 1, 2]
    assert result["finished"]
    white = keras_h5.read(folder / "out" / "model_white.keras")
    assert white.tensors["WPCA/kernel"].shape == (32, 4)
    assert main(_arguments(folder, "--restart", "--clusters", "--stop-after", "1")) == 0
    assert sorted(path.name for path in (folder / "out").iterdir() if path.suffix) == [
        "checkpoint.npz", "curves.csv", "model.keras",
    ]  # fmt: skip


def test_the_command_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = next((folder / "set" / "images" / "train" / "queries").iterdir())
    broken.write_bytes(b"no image")
    assert main(_arguments(folder, "--clusters")) == 1
    assert broken.name in capsys.readouterr().err
    assert not (folder / "out").exists()
    assert main(_arguments(folder, "--validation", str(folder / "nowhere"))) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(_arguments(folder, "--train-from", "conv5_1", "--clusters")) == 1
    assert "no layer 'conv5_1'" in capsys.readouterr().err


def test_images_that_are_too_small(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _model().save(folder / "start.keras")  # its clusters are there
    assert main(_arguments(folder, "--size", "1x1")) == 1
    assert "at least 2×2 pixels" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--learning-rate", "0"), "learning_rate 0"),
        (("--margin", "nan"), "margin nan"),
        (("--seed", "-1"), "seed -1"),
        (("--whiten", "33"), "10 descriptors of 32 numbers do not give 33 dimensions"),
        (("--size", "1x1"), "does not take images of 1×1 pixels"),
    ],
)
def test_the_command_refuses_before_it_writes(
    more: tuple[str, str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(folder, "--clusters", *more)) == 1
    assert said in capsys.readouterr().err
    assert not (folder / "out").exists()


def _files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_restart_that_is_refused_loses_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(folder, "--clusters", "--whiten", "4")) == 0
    before = _files(folder / "out")
    assert {"model.keras", "model_white.keras", "curves.csv", "checkpoint.npz"} < set(before)
    for more in ((), ("--clusters", "--train-from", "bogus")):
        assert main(_arguments(folder, "--restart", *more)) == 1
        assert _files(folder / "out") == before
    broken = next((folder / "set" / "images" / "train" / "queries").iterdir())
    broken.write_bytes(b"no image")
    assert main(_arguments(folder, "--restart", "--clusters")) == 1
    assert broken.name in capsys.readouterr().err
    assert _files(folder / "out") == before


def test_a_whitening_is_of_the_net_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An epoch that becomes the best removes that of the one before."""
    assert main(_arguments(folder, "--clusters")) == 0
    (folder / "out" / "model_white.keras").write_bytes(b"of an earlier best")
    assert main(_arguments(folder, "--epochs", "9", "--json")) == 0
    curves = json.loads(capsys.readouterr().out)["curves"]
    recalls = [row["recall@1"] for row in curves[1:]]
    is_better = max(recalls[2:]) > max(recalls[:2])
    assert (folder / "out" / "model_white.keras").exists() != is_better


def test_the_net_to_start_from_is_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").mkdir()
    start = (folder / "start.keras").rename(folder / "out" / "model.keras")
    before = start.read_bytes()
    words = ["--model", str(start), "--clusters"]
    for more in ((), ("--restart",)):
        assert main([*_arguments(folder), *words, *more]) == 1
        assert "would write over it" in capsys.readouterr().err
        assert start.read_bytes() == before


def test_images_to_train_on_are_not_measured_with(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_only = str(folder / "set" / "images" / "train")
    words = _arguments(folder, "--clusters")[1:]
    assert main([train_only, *words]) == 1
    assert "no split val" in capsys.readouterr().err
    val = str(folder / "set" / "images" / "val")
    assert main([train_only, *words, "--validation", val]) == 0


def test_what_a_kill_left_goes(folder: Path) -> None:
    """Drafts; and an earlier training that had made way for one that was killed comes back."""
    assert main(_arguments(folder, "--clusters", "--stop-after", "1")) == 0
    out = folder / "out"
    before = _files(out)
    (out / ".before").mkdir()
    for name in ("checkpoint.npz", "model.keras", "curves.csv"):
        (out / name).rename(out / ".before" / name)
    (out / ".model.keras.keras").write_bytes(b"half")
    assert main(_arguments(folder, "--train-from", "bogus")) == 1
    assert _files(out) == before | {".model.keras.keras": b"half"}
    assert main(_arguments(folder)) == 0
    assert not (out / ".model.keras.keras").exists()
    # Left by a restart that was killed after its first checkpoint: it does not come back.
    (out / ".before").mkdir()
    (out / ".before" / "model_white.keras").write_bytes(b"older")
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    assert main(_arguments(folder, "--restart", "--train-from", "bogus")) == 1
    assert _files(out) == before


def test_a_restart_waits_for_no_other_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does it touch what that run has written."""
    assert main(_arguments(folder, "--clusters", "--stop-after", "1")) == 0
    before = {path: path.read_bytes() for path in (folder / "out").iterdir()}
    with FileLock(folder / "out" / ".lock"):
        assert main(_arguments(folder, "--clusters", "--restart")) == 2
    assert "another run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_other_images_or_another_first_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(folder, "--clusters", "--stop-after", "1")) == 0
    assert main(_arguments(folder, "--size", "14x14")) == 1
    assert "another images" in capsys.readouterr().err
    model = _model(initialised=False)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    model.save(folder / "start.keras")
    assert main(_arguments(folder)) == 1
    assert "another first model" in capsys.readouterr().err
    _model(initialised=False).save(folder / "start.keras")
    (folder / "set").rename(folder / "moved")
    (folder / "set").mkdir()
    arguments = [
        word.replace(str(folder / "set"), str(folder / "moved")) for word in _arguments(folder)
    ]
    assert main(arguments) == 0


def test_photographs(folder: Path) -> None:
    paths = sorted((folder / "set" / "images" / "val" / "queries").iterdir())
    images = Photographs(paths).part([2, 0])
    assert len(images) == 2
    np.testing.assert_array_equal(images[0], np.asarray(Image.open(paths[2])))
