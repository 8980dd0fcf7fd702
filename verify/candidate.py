"""An artifact on its way through a run, a layer at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from converters.errors import ConversionError
from verify.capture import Array, Runner
from verify.result import LayerResult

__all__ = ["Candidate", "Failure", "OnFailure", "replayed_alone"]


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
    """One artifact on its way through a run."""

    name: str
    runner: Runner
    outputs: Iterator[tuple[str, Array]]
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


def replayed_alone(runner: Runner, layer: str, inputs: Sequence[Array]) -> tuple[Array | None, str]:
    try:
        return runner.replay(layer, inputs), ""
    except ConversionError as error:
        return None, error.message
