"""`netvlad-verify explain`: which mistake, or which two, make our descriptor theirs.

Every hypothesis is tried alone, then in pairs of different steps, the most promising first.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from converters.errors import ConversionError, ReadError
from netvlad_keras.preprocess import ImageError, load_image
from verify import descriptor_file, explained
from verify.capture import Array, Runner
from verify.described import Described
from verify.formats import open_artifact
from verify.hypotheses import Hypothesis, hypotheses

__all__ = ["EXPLAINED", "SAME", "Explanation", "Trial", "explain", "run"]

#: L2 of two descriptors of length 1. Runtimes that compute one net in float32 were seen to differ
#: by up to 8e-6; what is nearer than twice that cannot be told apart.
SAME = 2e-5
#: Up to here a descriptor counts as theirs: half of what rounding it to float16 costs (2e-4), so
#: that this shows too.
EXPLAINED = 1e-4
#: A cause takes away nine tenths of the distance at least.
_SHARE = 0.1
#: Hypotheses that alone come as near as that to each other may stand for one another in a pair.
_ALIKE = 0.05
#: How many of the nearest are told where nothing explains it.
_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """What hypotheses, one or two, leave of the distance."""

    hypotheses: tuple[Hypothesis, ...]
    distance: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found.

    before    the distance between their descriptor and ours; infinite where theirs is longer.
    causes    what explains it; several if they cannot be told apart on this picture.
    nearest   what came nearest, if nothing does.
    singles   how many hypotheses make a difference, `pairs` how many pairs of them were tried of
              `possible`, `refused` how many the model did not take.
    """

    before: float
    causes: tuple[Trial, ...] = ()
    nearest: tuple[Trial, ...] = ()
    singles: int = 0
    pairs: int = 0
    possible: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def same(self) -> bool:
        """There is nothing to explain."""
        return self.before <= EXPLAINED


def run(options: argparse.Namespace) -> bool:
    """The command: print what was found; whether it is explained, or the same."""
    theirs = descriptor_file.read(options.descriptor)
    artifact = open_artifact(options.model)
    found = explain(artifact, options.image, theirs, size=options.size, budget=options.budget)
    render = explained.as_json if options.json else explained.as_text
    print(render(found, options))
    return found.same or bool(found.causes)


def explain(
    artifact: Runner,
    image: Path,
    theirs: Array,
    *,
    size: tuple[int, int] | None = None,
    budget: float = 600.0,
) -> Explanation:
    """Try what can be wrong between `image` and `theirs`, a vector.

    size    height and width that the picture was to be resized to.
    budget  seconds, after which no further pair is begun.

    Raises `ConversionError` for a picture that cannot be read or that the artifact does not take.
    """
    if not artifact.layers:
        raise ConversionError(f"{image}: the artifact holds weights alone, nothing describes it")
    start = time.monotonic()
    size = size or fixed_size(artifact)
    bench = Described(artifact, image, _read(image), theirs, size)
    before = bench.distance(())
    if before <= EXPLAINED:
        return Explanation(before, seconds=time.monotonic() - start)
    table = hypotheses(bench.pixels.shape[:2], size, mean=bench.mean is not None)
    rows = [row for row in table if bench.applies(row)]
    singles = [Trial((row,), bench.distance((row,))) for row in rows]
    refused = sum(math.isinf(trial.distance) for trial in singles)
    found = Explanation(before, singles=len(rows), refused=refused)
    tried = list(singles)
    if not (causes := _explaining(singles, before)):
        pairs = _Pairs(singles)
        for pair in pairs.ordered():
            if time.monotonic() - start > budget:
                break
            tried.append(Trial(pair, bench.distance(pair)))
            pairs.tried += 1
            if _explaining(tried[-1:], before):
                pairs.found(pair)
        causes = _explaining(tried, before)
        found = replace(found, pairs=pairs.tried, possible=len(pairs.all))
    nearest = sorted(tried, key=lambda trial: trial.distance)[:_NEAREST]
    seconds = time.monotonic() - start
    return replace(found, causes=causes, nearest=() if causes else tuple(nearest), seconds=seconds)


class _Pairs:
    """Pairs of different steps, those first whose members alone come near."""

    def __init__(self, singles: Sequence[Trial]) -> None:
        self.alone = {trial.hypotheses[0]: trial.distance for trial in singles}
        usable = [row for row, distance in self.alone.items() if math.isfinite(distance)]
        pairs = [(a, b) for a, b in combinations(usable, 2) if a.stage != b.stage]
        self.all = sorted(pairs, key=lambda pair: self.alone[pair[0]] + self.alone[pair[1]])
        self.tried = 0
        self._causes: list[tuple[Hypothesis, Hypothesis]] = []

    def ordered(self) -> Iterator[tuple[Hypothesis, Hypothesis]]:
        """All of them; once one explains it, only what may be the same by other words."""
        for pair in self.all:
            if not self._causes or any(self._alike(pair, cause) for cause in self._causes):
                yield pair

    def found(self, pair: tuple[Hypothesis, ...]) -> None:
        """This one explains it."""
        first, second = pair
        self._causes.append((first, second))

    def _alike(
        self, pair: tuple[Hypothesis, Hypothesis], cause: tuple[Hypothesis, Hypothesis]
    ) -> bool:
        return all(
            one == other or abs(self.alone[one] - self.alone[other]) <= _ALIKE * self.alone[other]
            for one, other in zip(pair, cause, strict=True)
        )


def _explaining(trials: Iterable[Trial], before: float) -> tuple[Trial, ...]:
    """The trials that explain it, best first, without those that a better one rules out."""
    good = sorted(
        (t for t in trials if t.distance <= min(EXPLAINED, _SHARE * before)),
        key=lambda trial: trial.distance,
    )
    return tuple(t for t in good if t.distance <= max(SAME, 3 * good[0].distance))


def _read(image: Path) -> Array:
    try:
        if image.suffix.lower() == ".npy":
            return load_image(np.load(image, allow_pickle=False))
        return load_image(image)
    except ImageError as error:
        raise ReadError(image, error.reason) from error
    except (OSError, ValueError) as error:
        raise ReadError(image, f"not a picture: {error}") from error


def fixed_size(artifact: Runner) -> tuple[int, int] | None:
    """Height and width, where an artifact takes no other."""
    shape = getattr(getattr(artifact, "takes", None), "shape", (None,) * 4)
    height, width = shape[1:3]
    return (height, width) if height and width else None
