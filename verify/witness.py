"""The witness: artifacts beside the oracle, layer by layer, on several inputs.

The oracle and every artifact are walked in step; what was compared is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from converters.checkpoint import Checkpoint
from converters.errors import ConversionError
from verify import compare, oracle, regimes, runners
from verify.arithmetic import FLOAT16, FLOAT32, Arithmetic
from verify.candidate import Candidate, Failure, OnFailure, replayed_alone
from verify.capture import Array, Images, Runner, batches
from verify.near_zero import is_l2, probe
from verify.rearranged import Outcome, rearranged
from verify.reference import subtracts, weights_of
from verify.result import Column, LayerResult, Measure, Regime, Report
from verify.settings import settings
from verify.tensors import bit_for_bit
from verify.tolerance import HALF, INHERITED_HALF, ONEDNN, Tolerance
from verify.verdict import judge

__all__ = ["NEAR_ZERO", "Run", "deployed", "leftovers", "regime", "tolerance_of", "witness"]

#: L2 layers replayed alone on vectors of the lengths 1e-9 to 1e-3, where an epsilon shows.
NEAR_ZERO = "near-zero vectors"


def witness(
    checkpoint: Checkpoint,
    artifacts: Mapping[str, Runner],
    images: Mapping[str, Images] | None = None,
    tolerance: Tolerance | None = None,
    on_failure: OnFailure | None = None,
    arithmetic: Arithmetic = FLOAT32,
) -> Report:
    """Compare every artifact with the source on every input (`regimes.regimes()` by default).

    A net of several inputs is given each by its name.
    `on_failure` is given the first failing layer of each artifact on each input. `arithmetic` is
    what the artifacts are declared to compute in.

    Raises `ConversionError` where the source itself cannot be executed.
    """
    images = regimes.regimes() if images is None else images
    right = weights_of(checkpoint)
    tensors = {name: bit_for_bit(right, runner, arithmetic) for name, runner in artifacts.items()}
    found: list[Regime] = []
    rounding: dict[str, dict[str, float]] = {}

    def candidates() -> list[Candidate]:
        return [
            Candidate(n, r, tolerance_of(r, tolerance or Tolerance(), arithmetic))
            for n, r in artifacts.items()
        ]

    for name, batch in images.items():
        run = Run(on_failure, checkpoint, candidates(), arithmetic)
        for each in run.artifacts:
            each.outputs, each.weights = each.runner.run(batch), tensors[each.name]
        # The epsilons show on one input as on any other.
        short = [] if found else [each for each in candidates() if each.runnable]
        rounding[name] = run.walk(batch, short)
        shape = batches(batch)[0].shape
        found.append(regime(name, shape, run, right))
        if any(each.results for each in short):
            near_zero = Run(None, checkpoint, short, arithmetic)
            found.append(regime(NEAR_ZERO, shape, near_zero, right))
    return Report(
        reference=str(checkpoint.origin.path.name),
        layers=(
            *(["input"] if subtracts(checkpoint) else []),
            *(layer.name for layer in checkpoint.layers),
        ),
        regimes=tuple(found),
        rounding=rounding,
    )


def tolerance_of(
    runner: Runner, tolerance: Tolerance, arithmetic: Arithmetic = FLOAT32
) -> Tolerance:
    if arithmetic == FLOAT16:
        return replace(tolerance, factor=HALF * tolerance.factor, whole=INHERITED_HALF)
    onednn = runners.ONEDNN in runner.notes
    return replace(tolerance, factor=ONEDNN * tolerance.factor) if onednn else tolerance


class Run:
    """One input through the oracle and all artifacts."""

    def __init__(
        self,
        on_failure: OnFailure | None,
        checkpoint: Checkpoint,
        artifacts: list[Candidate],
        arithmetic: Arithmetic = FLOAT32,
    ) -> None:
        self.on_failure = on_failure
        self.checkpoint = checkpoint
        self.artifacts = artifacts
        self.arithmetic = arithmetic

    def walk(self, images: Images, short: list[Candidate]) -> dict[str, float]:
        """Compare layer by layer; layer -> its relative rounding is returned.

        `short` are the artifacts again, whose L2 layers are probed on short vectors.
        """
        wide = oracle.execute(self.checkpoint, images)
        narrow = self.arithmetic.execute(self.checkpoint, images)
        layers = {layer.name: layer for layer in self.checkpoint.layers}
        last = {name: layer.name for layer in layers.values() for name in layer.inputs}
        read = {name for layer in layers.values() for name in layer.inputs}
        variables = {layer.output: layer.name for layer in layers.values() if layer.output}
        ends: dict[str, compare.Reference] = {}
        running = [artifact for artifact in self.artifacts if artifact.runner.layers]
        kept: dict[str, Array] = {}
        rounding: dict[str, float] = {}
        for (name, values), (_, single) in zip(wide, narrow, strict=True):
            layer = layers.get(name)
            if layer is None and not subtracts(self.checkpoint):
                kept[name] = values  # an input as it is given: an artifact may show it
                for artifact in (each for each in running if name in each.runner.layers):
                    self.compare(artifact, name, [values], None, compare.reference(values))
                continue
            inputs, own = batches(images), None
            if layer:
                inputs = [kept[each].astype(np.float32) for each in layer.inputs]
                inputs = self.arithmetic.held(self.checkpoint, layer, inputs)
                own = self.arithmetic.alone(self.checkpoint, layer, inputs)
            inherited = compare.reference(values, single, least=own or compare.reference(values))
            rounding[name] = (own or inherited).relative_rounding
            for artifact in running:
                self.compare(artifact, name, inputs, own, inherited)
            if layer and short and is_l2(layer):
                probe(self.checkpoint, layer, inputs[0], short, self.arithmetic)
            if name not in read or name in self.checkpoint.outputs:
                ends[name] = inherited
            kept[name] = values
            for each in list(kept):
                if each != name and last.get(each, "") == name:
                    del kept[each]
        for artifact in running:
            leftovers(artifact)
            deployed(artifact, images, ends, variables)
        return rounding

    def compare(
        self,
        artifact: Candidate,
        name: str,
        inputs: Sequence[Array],
        own: compare.Reference | None,
        inherited: compare.Reference,
    ) -> None:
        values = artifact.take(name)
        if values is None and artifact.recorded:
            return
        if values is None:
            problem = artifact.refused or "the artifact has no such layer"
            artifact.results.append(LayerResult(name, (), None, None, problem))
            return
        whole: Measure | None = None
        histogram: tuple[int, ...] = ()
        if not (problem := compare.misfit(inherited, values)):
            whole = compare.measure(inherited, values, artifact.limits(name, inherited, own=False))
            histogram = compare.histogram(inherited, values)
        alone, replayed = None, None
        if own is not None and not artifact.recorded:
            replayed, fault = replayed_alone(artifact.runner, name, inputs)
            if replayed is not None and not (fault := compare.misfit(own, replayed)):
                alone = compare.measure(own, replayed, artifact.limits(name, own, own=True))
            problem = problem or fault
        result = LayerResult(name, values.shape, whole, alone, problem, histogram)
        artifact.results.append(result)
        if result.passed or artifact.causes:
            return
        outcome = None
        if own is not None and replayed is not None and not (alone and alone.passed):
            outcome = Outcome(inputs, own.values, replayed)
        artifact.causes[name] = self._cause(artifact, name, outcome) if outcome else ""
        if self.on_failure:
            right = (own or inherited).values
            found = values if replayed is None else replayed
            self.on_failure(artifact.name, artifact.runner, Failure(name, inputs, right, found))

    def _cause(self, artifact: Candidate, name: str, outcome: Outcome) -> str:
        """Of a layer that is wrong alone. Where its weights are wrong, they are the cause."""
        if artifact.wrong_weight(name):
            return ""
        return rearranged(outcome) or settings(self.checkpoint, name, outcome)


def deployed(
    artifact: Candidate,
    images: Images,
    ends: Mapping[str, compare.Reference],
    variables: Mapping[str, str],
) -> None:
    """The whole net at once, optimised as its users run it: the worse of both runs counts.

    An output may be called after the source's variable: `variables` -> layer.
    """
    places = {result.layer: index for index, result in enumerate(artifact.results)}
    outputs: Mapping[str, Array] = {}
    refused = ""
    try:
        found = artifact.runner.deployed(images)
        outputs = {variables.get(name, name): values for name, values in found.items()}
    except ConversionError as error:
        refused = f"cannot be run as a whole: {error}"
    if not refused and not outputs.keys() & ends.keys():
        refused = "run as a whole, it gives none of the net's outputs"
    for name, right in ends.items():
        if name not in places or artifact.results[places[name]].inherited is None:
            continue
        result = artifact.results[places[name]]
        if refused:
            result = replace(result, problem=refused)
        elif name in outputs:
            result = _worse(artifact, result, right, outputs[name])
        artifact.results[places[name]] = result


def _worse(
    artifact: Candidate, result: LayerResult, right: compare.Reference, values: Array
) -> LayerResult:
    if problem := compare.misfit(right, values):
        return replace(result, problem=f"run as a whole: {problem}")
    found = compare.measure(right, values, artifact.limits(result.layer, right, own=False))
    assert result.inherited is not None
    return (
        replace(result, inherited=found) if found.roundings > result.inherited.roundings else result
    )


def leftovers(artifact: Candidate) -> None:
    """What the artifact has and the source does not."""
    try:
        artifact.waiting |= dict(artifact.outputs)
    except ConversionError as error:
        artifact.refused = artifact.refused or error.message
    for name, values in artifact.waiting.items():
        problem = f"the source has no layer {name}"
        artifact.results.append(LayerResult(name, values.shape, None, None, problem))


def regime(name: str, shape: tuple[int, ...], run: Run, right: Mapping[str, Array]) -> Regime:
    columns = tuple(
        Column(
            artifact=artifact.name,
            kind=artifact.runner.kind,
            path=artifact.name,
            layers=tuple(artifact.results),
            weights=tuple(artifact.weights),
            verdict=judge(run.checkpoint, artifact, right),
            notes=tuple(artifact.runner.notes),
            seconds=artifact.seconds,
        )
        for artifact in run.artifacts
    )
    return Regime(name, shape, columns)
