"""Artifacts as they are declared: in float32, rounded to float16, or quantised to int8.

Each group is compared by what it may cost. Of a file in int8 no layer can be told from its
source's to any purpose, so its outputs alone are compared, within `QUANTISED` of the largest
value; what it does to rankings is a matter of `netvlad-verify images`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from converters.checkpoint import Checkpoint
from verify.arithmetic import FLOAT16, FLOAT32
from verify.candidate import OnFailure
from verify.capture import RECORDED, Array, Images, Runner
from verify.declared import quantised, rounded
from verify.loose_gate import explained
from verify.result import Report
from verify.tolerance import Tolerance
from verify.witness import witness

__all__ = ["QUANTISED", "Outputs", "compared"]

#: Of a layer's largest value: how far an output of a file in int8 may be off.
QUANTISED = 0.2


class Outputs:
    """A `Runner` of what the whole file gives, and nothing inside it."""

    kind = RECORDED

    def __init__(self, runner: Runner, variables: Mapping[str, str]) -> None:
        self.runner = runner
        self.variables = variables
        self.layers = runner.layers
        self.notes = (
            *runner.notes,
            f"int8: only its outputs are compared, within {QUANTISED:g} of their largest value",
        )

    def run(self, images: Images) -> Iterator[tuple[str, Array]]:
        """The outputs; one may be called after the source's variable."""
        for name, values in self.runner.deployed(images).items():
            yield self.variables.get(name, name), values

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        """Nothing can be run alone."""
        raise NotImplementedError(layer)

    def deployed(self, images: Images) -> Mapping[str, Array]:
        """As the file's users get them."""
        return self.runner.deployed(images)

    def weights(self) -> Mapping[str, Array]:
        """None that could be compared."""
        return {}


def compared(
    checkpoint: Checkpoint,
    runners: Mapping[str, Runner],
    images: Mapping[str, Images],
    tolerance: Tolerance,
    on_failure: OnFailure,
    manifest: Mapping[str, Any],
) -> list[Report]:
    """A report on each group that there is."""
    halved, small = rounded(manifest), quantised(manifest)
    variables = {layer.output: layer.name for layer in checkpoint.layers if layer.output}
    whole = {name: r for name, r in runners.items() if name not in halved | small}
    half = {name: r for name, r in runners.items() if name in halved}
    int8 = {name: Outputs(r, variables) for name, r in runners.items() if name in small}
    found = []
    if whole or not runners:
        made = witness(checkpoint, whole, images, tolerance, on_failure)
        found.append(explained(made, checkpoint, whole, images, tolerance))
    if half:
        found.append(witness(checkpoint, half, images, tolerance, on_failure, arithmetic=FLOAT16))
    if int8:
        loose = replace(tolerance, rtol=QUANTISED)
        found.append(witness(checkpoint, int8, images, loose, arithmetic=FLOAT32))
    return found
