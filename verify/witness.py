"""The witness: artifacts beside the oracle, layer by layer, on several inputs.

The oracle and every artifact are walked in step; what was compared is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from converters.checkpoint import Checkpoint, Layer
from converters.errors import ConversionError
from verify import compare, diagnose, oracle, regimes
from verify.candidate import Candidate, Failure, OnFailure, replayed_alone
from verify.capture import Array, Runner
from verify.near_zero import allowed, is_l2, shortened
from verify.reference import weights_of
from verify.result import Column, LayerResult, Regime, Report, WeightResult
from verify.rounding import rounded
from verify.tensors import bit_for_bit
from verify.tolerance import Limits, Tolerance
from verify.verdict import judge

__all__ = ["NEAR_ZERO", "witness"]

#: L2 layers replayed alone on vectors of these lengths, where an epsilon shows.
NEAR_ZERO = "near-zero vectors"


def witness(
    checkpoint: Checkpoint,
    runners: Mapping[str, Runner],
    images: Mapping[str, Array] | None = None,
    tolerance: Tolerance | None = None,
    on_failure: OnFailure | None = None,
) -> Report:
    """Compare every runner with the source on every input (`regimes.regimes()` by default).

    `on_failure` is given the first failing layer of each artifact on each input.

    Raises `ConversionError` where the source itself cannot be executed.
    """
    tolerance = tolerance or Tolerance()
    images = regimes.regimes() if images is None else images
    right = weights_of(checkpoint)
    differences = {name: bit_for_bit(right, runner) for name, runner in runners.items()}
    found: list[Regime] = []
    rounding: dict[str, dict[str, float]] = {}
    for name, batch in images.items():
        run = _Run(
            on_failure,
            checkpoint,
            tolerance,
            [Candidate(n, r, r.run(batch)) for n, r in runners.items()],
        )
        rounding[name] = run.walk(batch)
        found.append(_regime(name, batch.shape, run, right, differences))
        if run.near_zero and len(found) == 1:
            found.append(_regime(NEAR_ZERO, batch.shape, run.near_zero, right, {}))
    return Report(
        reference=str(checkpoint.origin.path.name),
        layers=("input", *(layer.name for layer in checkpoint.layers)),
        regimes=tuple(found),
        rounding=rounding,
    )


class _Run:
    """One input through the oracle and all artifacts."""

    def __init__(
        self,
        on_failure: OnFailure | None,
        checkpoint: Checkpoint,
        tolerance: Tolerance,
        artifacts: list[Candidate],
    ) -> None:
        self.on_failure = on_failure
        self.checkpoint = checkpoint
        self.tolerance = tolerance
        self.artifacts = artifacts
        self.near_zero: _Run | None = None

    def walk(self, images: Array) -> dict[str, float]:
        """Compare layer by layer; layer -> relative float32 rounding is returned."""
        wide = oracle.execute(self.checkpoint, images)
        narrow = oracle.execute(self.checkpoint, images, np.float32)
        layers = {layer.name: layer for layer in self.checkpoint.layers}
        last = {name: layer.name for layer in layers.values() for name in layer.inputs}
        kept: dict[str, Array] = {}
        rounding: dict[str, float] = {}
        for (name, values), (_, single) in zip(wide, narrow, strict=True):
            layer = layers.get(name)
            inputs = [kept[each].astype(np.float32) for each in layer.inputs] if layer else [images]
            own = self._own(layer, inputs)
            inherited = compare.reference(values, single, least=own or compare.reference(values))
            rounding[name] = (own or inherited).relative_rounding
            for artifact in self.artifacts:
                self._compare(artifact, name, inputs, own, inherited)
            self._probe(layer, inputs)
            kept[name] = values
            for each in list(kept):
                if each != name and last.get(each, "") == name:
                    del kept[each]
        for artifact in self.artifacts:
            self._leftovers(artifact, rounding)
            self._deployed(artifact, images, name, inherited)
        return rounding

    def _own(self, layer: Layer | None, inputs: Sequence[Array]) -> compare.Reference | None:
        if layer is None:
            return None
        wide = [values.astype(np.float64) for values in inputs]
        exact = oracle.replay(self.checkpoint, layer.name, wide)
        return compare.reference(exact, *rounded(self.checkpoint, layer.name, inputs))

    def _compare(
        self,
        artifact: Candidate,
        name: str,
        inputs: Sequence[Array],
        own: compare.Reference | None,
        inherited: compare.Reference,
    ) -> None:
        values = artifact.take(name)
        if values is None:
            problem = artifact.refused or "the artifact has no such layer"
            artifact.results.append(LayerResult(name, (), None, None, problem))
            return
        if problem := compare.misfit(inherited, values):
            artifact.results.append(LayerResult(name, values.shape, None, None, problem))
            return
        whole = compare.measure(inherited, values, self._limits(name, inherited, own=False))
        histogram = compare.histogram(inherited, values)
        alone, problem, replayed = None, "", None
        if own is not None:
            replayed, problem = replayed_alone(artifact.runner, name, inputs)
            if replayed is not None and not (problem := compare.misfit(own, replayed)):
                alone = compare.measure(own, replayed, self._limits(name, own, own=True))
        result = LayerResult(name, values.shape, whole, alone, problem, histogram)
        artifact.results.append(result)
        if not result.passed:
            cause = diagnose.order(self.checkpoint, artifact.runner, name)
            if not cause and replayed is not None:
                cause = diagnose.constants(self.checkpoint, name, inputs, replayed)
            if self.on_failure and not artifact.causes:
                right = (own or inherited).values
                found = values if replayed is None else replayed
                self.on_failure(artifact.name, artifact.runner, Failure(name, inputs, right, found))
            artifact.causes[name] = cause

    def _limits(self, name: str, right: compare.Reference, *, own: bool) -> Limits:
        limits = self.tolerance.own(name) if own else self.tolerance.inherited(name)
        return self.tolerance.widened(limits, right.largest, right.rounding, right.peak)

    def _probe(self, layer: Layer | None, inputs: Sequence[Array]) -> None:
        """An L2 layer on vectors so short that its epsilon shows."""
        if layer is None or not is_l2(layer):
            return
        if self.near_zero is None:
            others = [
                Candidate(a.name, a.runner, iter(())) for a in self.artifacts if a.runner.layers
            ]
            self.near_zero = _Run(None, self.checkpoint, self.tolerance, others)
        short = [shortened(inputs[0], whole=layer.kind != "normalize")]
        own = self._own(layer, short)
        assert own is not None
        for artifact in self.near_zero.artifacts:
            values, problem = replayed_alone(artifact.runner, layer.name, short)
            if values is None or (problem := compare.misfit(own, values)):
                artifact.results.append(LayerResult(layer.name, (), None, None, problem))
                continue
            measure = compare.measure(own, values, self._limits(layer.name, own, own=True))
            result = LayerResult(layer.name, values.shape, None, measure)
            if not result.passed:
                cause = diagnose.constants(self.checkpoint, layer.name, short, values)
                artifact.causes[layer.name] = cause or "an epsilon"
                if artifact.runner.kind == "tf_graph":
                    result = replace(result, own=allowed(measure))
            artifact.results.append(result)

    def _deployed(
        self, artifact: Candidate, images: Array, name: str, right: compare.Reference
    ) -> None:
        """The whole net at once, optimised as its users run it: the worse of both runs counts."""
        place = next((i for i, r in enumerate(artifact.results) if r.layer == name), None)
        if place is None or artifact.results[place].inherited is None:
            return
        result = artifact.results[place]
        try:
            outputs = artifact.runner.deployed(images)
            values = list(outputs.values())[-1]
            if problem := compare.misfit(right, values):
                result = replace(result, problem=f"run as a whole: {problem}")
            else:
                found = compare.measure(right, values, self._limits(name, right, own=False))
                assert result.inherited is not None
                if found.roundings > result.inherited.roundings:
                    result = replace(result, inherited=found)
        except (ConversionError, IndexError) as error:
            result = replace(result, problem=f"cannot be run as a whole: {error}")
        artifact.results[place] = result

    def _leftovers(self, artifact: Candidate, known: Mapping[str, float]) -> None:
        try:
            artifact.waiting |= dict(artifact.outputs)
        except ConversionError as error:
            artifact.refused = artifact.refused or error.message
        for name, values in artifact.waiting.items():
            problem = f"the source has no layer {name}"
            artifact.results.append(LayerResult(name, values.shape, None, None, problem))


def _regime(
    name: str,
    shape: tuple[int, ...],
    run: _Run,
    right: Mapping[str, Array],
    differences: Mapping[str, tuple[WeightResult, ...]],
) -> Regime:
    layers = ["input", *(layer.name for layer in run.checkpoint.layers)]
    columns = []
    for artifact in run.artifacts:
        weights = differences.get(artifact.name, ())
        results = tuple(artifact.results) if artifact.runner.layers else ()
        columns.append(
            Column(
                artifact=artifact.name,
                kind=artifact.runner.kind,
                path=artifact.name,
                layers=results,
                weights=weights,
                verdict=judge(
                    artifact.name, artifact.runner, layers, results, artifact.causes, weights, right
                ),
                notes=tuple(artifact.runner.notes),
                seconds=artifact.seconds,
            )
        )
    return Regime(name, shape, tuple(columns))
