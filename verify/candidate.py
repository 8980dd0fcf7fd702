"""An artifact on its way through a run, a layer at a time; and a layer alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from converters.checkpoint import Checkpoint
from converters.errors import ConversionError
from verify import compare, oracle
from verify.capture import RECORDED, Array, Runner
from verify.result import LayerResult, WeightResult
from verify.rounding import rounded
from verify.tolerance import Limits, Tolerance

__all__ = ["Candidate", "Failure", "OnFailure", "expected_alone", "replayed_alone"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A layer that fails: what it was fed, what the source gives, what the artifact gave."""

    layer: str
    inputs: Sequence[Array]
    expected: Array
    found: Array


OnFailure = Callable[[str, Runner, Failure], None]


@dataclass(slots=True)
class Candidate:
    """One artifact on its way through a run.

    weights  its tensors against the source's; `causes`: failing layer -> why, in words.
    """

    name: str
    runner: Runner
    tolerance: Tolerance
    outputs: Iterator[tuple[str, Array]] = field(default_factory=lambda: iter(()))
    weights: Sequence[WeightResult] = ()
    waiting: dict[str, Array] = field(default_factory=dict)
    results: list[LayerResult] = field(default_factory=list)
    causes: dict[str, str] = field(default_factory=dict)
    refused: str = ""
    seconds: float = 0.0

    def take(self, layer: str) -> Array | None:
        """The output of `layer`, run on to it; what comes before it waits for its turn."""
        start = time.perf_counter()
        try:
            while layer not in self.waiting:
                name, values = next(self.outputs)
                self.waiting[name] = values
            return self.waiting.pop(layer)
        except StopIteration:
            return None
        except ConversionError as error:
            self.refused = self.refused or error.message
            self.outputs = iter(())
            return None
        finally:
            self.seconds += time.perf_counter() - start

    @property
    def runnable(self) -> bool:
        """Whether it has layers that can be run."""
        return bool(self.runner.layers) and not self.recorded

    @property
    def recorded(self) -> bool:
        """Whether it can only show what was kept: some layers, none of which can be run."""
        return self.runner.kind == RECORDED

    def wrong_weight(self, layer: str) -> WeightResult | None:
        """The first tensor of a layer that is not the source's."""
        of_layer = (w for w in self.weights if w.name.rsplit("/", 1)[0] == layer)
        return next((w for w in of_layer if not w.passed), None)

    def limits(self, layer: str, right: compare.Reference, *, own: bool) -> Limits:
        """Of the layer's own error, or of what it inherits."""
        limits = self.tolerance.own(layer) if own else self.tolerance.inherited(layer)
        return self.tolerance.widened(limits, right.largest, right.rounding, right.peak)


def expected_alone(
    checkpoint: Checkpoint, layer: str, inputs: Sequence[Array]
) -> compare.Reference:
    """What the source's layer gives on these inputs, and what float32 costs there."""
    exact = oracle.replay(checkpoint, layer, [values.astype(np.float64) for values in inputs])
    return compare.reference(exact, *rounded(checkpoint, layer, inputs))


def replayed_alone(runner: Runner, layer: str, inputs: Sequence[Array]) -> tuple[Array | None, str]:
    """What an artifact's layer gives on them, or why it gives nothing."""
    try:
        return runner.replay(layer, inputs), ""
    except ConversionError as error:
        return None, error.message
