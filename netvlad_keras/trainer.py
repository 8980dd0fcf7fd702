"""The original's training, epoch by epoch, around `compile` and `fit`; it can be killed.

Exact repetition, and going on after a kill with the same weights, are promised on TensorFlow,
on one machine: its operations are made deterministic for the process.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from netvlad_keras import checkpoints, fingerprint, recall
from netvlad_keras.checkpoints import Checkpoint
from netvlad_keras.clusters import check_initialised
from netvlad_keras.errors import TrainingError
from netvlad_keras.features import described
from netvlad_keras.index import search
from netvlad_keras.loss import TripletCount, TripletLoss
from netvlad_keras.mining import Miner, Tuple, rounds
from netvlad_keras.optimisation import MomentumDescent, freeze
from netvlad_keras.recipe import Recipe, Row, Watcher
from netvlad_keras.resuming import locked
from netvlad_keras.training_folder import BEST, CHECKPOINT, CURVES, WHITE, save, tidy, write_curves
from netvlad_keras.tuples import Images, ImageSet, Tuples

__all__ = ["train"]

Array = NDArray[Any]

#: recall@N of the curves; the epoch with the best of `_DECIDES` is kept.
_AT, _DECIDES = (1, 5, 10), "recall@5"


def train(
    model: keras.Model,
    training: ImageSet,
    validation: ImageSet,
    out: Path,
    recipe: Recipe | None = None,
    *,
    watcher: Watcher | None = None,
    start: str | None = None,
) -> tuple[Row, ...]:
    """Train `model` in place, up to the last epoch of `recipe`. Returns the curves.

    In the folder `out`: `checkpoint.npz` after each epoch, from which the same call goes on, or
    one with more epochs; `curves.csv`; and `model.keras`, the epoch with the best recall@5 on
    `validation`. Afterwards `model` holds the weights of the last epoch. `start` names the weights
    that the training starts from: a checkpoint of another name is refused.

    Raises `TrainingError` for clusters that were never initialised, for sets with no query to
    train with, for a checkpoint of another training or a `model.keras` that none goes with, and
    for a training that diverges; `EnvironmentFailure` where another run is at it.
    """
    run = _Run(model, training, validation, out, recipe or Recipe(), watcher, start)
    with locked(out, out):
        run.resume()
        while run.epoch < run.recipe.epochs:
            run.train_epoch()
    return tuple(run.history)


class _Run:
    """A training in progress: `epoch` epochs are done."""

    def __init__(
        self,
        model: keras.Model,
        training: ImageSet,
        validation: ImageSet,
        out: Path,
        recipe: Recipe,
        watcher: Watcher | None,
        start: str | None,
    ) -> None:
        self.model, self.recipe = model, recipe
        self.history: list[Row] = []
        self._training, self._validation = training, validation
        self._out, self._watcher, self._start = out, watcher, start
        places = training.database.positions, training.queries.positions
        self._miner = Miner(*places, recipe.mining, seed=recipe.seed)
        self._check()
        self._views = [v for s in (training, validation) for v in (s.database, s.queries)]
        self._images = [fingerprint.of_images(each.images) for each in self._views]
        self._features: tuple[Array, Array] | None = None
        _prepare(model, recipe)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history) - 1

    def _check(self) -> None:
        count = len(self._training.queries.images)
        if count < self.recipe.batch:
            raise TrainingError(f"{count} queries are less than one batch of {self.recipe.batch}")
        if not any(len(self._miner.positives(query)) for query in range(count)):
            near, far = self.recipe.mining.positive_above, self.recipe.mining.positive_to
            raise TrainingError(f"no query has a positive between {near} and {far} metres away")

    def resume(self) -> None:
        """Take up a checkpoint, or measure the net as it is and write the first one."""
        path = self._out / CHECKPOINT
        tidy(self._out)
        found = checkpoints.read(path)
        if found is None:
            check_initialised(self.model)
            if (self._out / BEST).exists():
                raise TrainingError(
                    f"{self._out / BEST}: is there, and no checkpoint of its training",
                    advice="Train into another folder, or move it away.",
                )
            # so that what is wrong with an image is said before anything is written
            self._features = self._described(self._training, 1, "mining")
            return self._end({})
        checkpoints.check(path, found, self._about())
        for group, variables in self._variables().items():
            arrays = found.numbered(group, [variable.shape for variable in variables])
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(array)
        self._miner.restore(found.arrays["mining"])
        self.history = list(found.history)

    def train_epoch(self) -> None:
        """The next epoch: mine and train round by round, then measure and save."""
        epoch = self.epoch + 1
        recipe, order = self.recipe, self._miner.begin(epoch)
        self.model.optimizer.learning_rate = recipe.rate(epoch)
        batches = len(order) // recipe.batch
        considered = trained = active = 0
        loss = 0.0
        for part in rounds(batches, recipe.renewal(epoch)):
            if part.start or self._features is None:
                self._features = self._described(self._training, epoch, "mining")
            queries = [order[i * recipe.batch : (i + 1) * recipe.batch] for i in part]
            mined, looked_at = self._mine(queries)
            considered += looked_at
            trained += sum(map(len, mined))
            logs = self._fit(mined, epoch, part.start, batches)
            active += round(logs.get("active_triplets", 0.0))
            loss += logs.get("summed_loss", 0.0)
        self._features = None
        self._end(
            {
                "learning_rate": recipe.rate(epoch),
                "loss": loss / max(trained, 1),
                "active": active / max(considered, 1),
            }
        )

    def _mine(self, queries: Sequence[Array]) -> tuple[list[list[Tuple]], int]:
        """Batches of tuples, empty ones left out, and how many negatives were considered."""
        assert self._features is not None
        found = [[self._miner.mine(int(q), *self._features) for q in batch] for batch in queries]
        considered = sum(each.considered for batch in found for each in batch)
        batches = [[each.tuple for each in batch if each.tuple] for batch in found]
        return [batch for batch in batches if batch], considered

    def _fit(
        self, batches: Sequence[Sequence[Tuple]], epoch: int, before: int, total: int
    ) -> Mapping[str, float]:
        if not batches:
            return {}
        tuples = Tuples(batches, self._training.database.images, self._training.queries.images)

        def report(batch: int, logs: Any) -> None:
            self._step(epoch, "training", before + batch + 1, total)

        told = keras.callbacks.LambdaCallback(on_train_batch_end=report)
        fitted = self.model.fit(tuples, verbose=0, shuffle=False, callbacks=[told])
        return {name: float(values[-1]) for name, values in fitted.history.items()}

    def _end(self, row: Row) -> None:
        """Measure on the validation set, keep the best, save what the next epoch needs."""
        epoch = len(self.history)
        features = self._described(self._validation, epoch, "validation")
        ranking = search(*features, max(_AT))
        places = self._validation.database.positions, self._validation.queries.positions
        found = recall.measured(ranking.indices, *places, self._validation.radius).at(_AT)
        row = {"epoch": epoch, **row, **{f"recall@{n}": value for n, value in found.items()}}
        self.history.append(row)
        if self._is_best():
            (self._out / WHITE).unlink(missing_ok=True)  # that of another epoch
            save(self.model, self._out / BEST)
        columns = ["epoch", "learning_rate", "loss", "active", *(f"recall@{n}" for n in _AT)]
        write_curves(self._out / CURVES, self.history, columns)
        arrays: dict[str, Mapping[str, Array]] = {
            group: {
                f"{number:05}": keras.ops.convert_to_numpy(v) for number, v in enumerate(variables)
            }
            for group, variables in self._variables().items()
        }
        arrays["mining"] = self._miner.state()
        checkpoint = Checkpoint(self._about(), tuple(self.history), arrays)
        checkpoints.write(self._out / CHECKPOINT, checkpoint)
        if self._watcher:
            self._watcher.ended(row)

    def _is_best(self) -> bool:
        """Whether the last epoch is the best so far; the net before training does not compete."""
        *before, last = self.history
        decides = next(name for name in (_DECIDES, "recall@1") if name in last)
        return last["epoch"] > 0 and all(
            last[decides] > row[decides] for row in before if row["epoch"] > 0
        )

    def _described(self, views: ImageSet, epoch: int, what: str) -> tuple[Array, Array]:
        lists = views.database.images, views.queries.images
        total, batch = sum(map(len, lists)), self.recipe.feature_batch
        # those to train on share batches
        size = np.shape(lists[0][0])[:2] if views is self._training else None

        def of(images: Images, before: int) -> Array:
            def progress(done: int) -> None:
                self._step(epoch, what, before + done, total)

            found = described(self.model, images, batch=batch, size=size, progress=progress)
            if not np.isfinite(found).all():
                raise TrainingError(
                    f"epoch {epoch}, {what}: descriptors hold NaN or infinity",
                    advice="The training diverges: a smaller learning rate, from the beginning.",
                )
            return found

        return of(lists[0], 0), of(lists[1], len(lists[0]))

    def _step(self, epoch: int, what: str, done: int, total: int) -> None:
        if self._watcher:
            self._watcher.step(epoch, what, done, total)

    def _variables(self) -> dict[str, list[Any]]:
        return {"model": self.model.variables, "optimizer": self.model.optimizer.variables}

    def _about(self) -> dict[str, Any]:
        """What must be the same for a run to go on; more epochs may be asked for."""
        about = {
            "recipe": {**asdict(self.recipe), "epochs": None},
            "positions": fingerprint.of_arrays(each.positions for each in self._views),
            "images": self._images,
        }
        return about if self._start is None else {**about, "first model": self._start}


def _prepare(model: keras.Model, recipe: Recipe) -> None:
    """Freeze, compile, and have an optimizer with all its variables."""
    if keras.config.backend() == "tensorflow":
        import_module("netvlad_keras.determinism").enable()
    keras.utils.set_random_seed(recipe.seed)
    freeze(model, recipe.train_from)
    margin = recipe.mining.margin
    model.compile(
        optimizer=MomentumDescent(recipe.learning_rate, recipe.momentum, recipe.decay),
        loss=TripletLoss(margin),
        metrics=[TripletCount(margin)],
        jit_compile=False,  # it would compile anew for each number of negatives
    )
    model.optimizer.build(model.trainable_variables)
