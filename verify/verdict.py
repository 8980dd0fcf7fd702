"""What is wrong first, and why: `judge`."""

from __future__ import annotations

from collections.abc import Mapping

from converters.checkpoint import Checkpoint
from verify import diagnose, wiring
from verify.candidate import Candidate
from verify.capture import Array
from verify.result import Verdict, WeightResult

__all__ = ["judge"]


def judge(checkpoint: Checkpoint, artifact: Candidate, right: Mapping[str, Array]) -> Verdict:
    """The first bad layer in the source's order, what differs there, and why.

    A layer is bad by its values, by its weights, or by reading other layers than the source's.
    `right` are the source's weights by canonical name.
    """
    layers = ("input", *(layer.name for layer in checkpoint.layers))
    place = {name: index for index, name in enumerate(layers)}
    compared = {result.layer for result in artifact.results}
    misread = wiring.misread(checkpoint, artifact.runner)
    bad = [r.layer for r in artifact.results if not r.passed]
    bad += [w.name.rsplit("/", 1)[0] for w in artifact.weights if not w.passed]
    bad += [name for name in misread if name in compared]
    name = artifact.name
    if not artifact.results and not artifact.weights:
        return Verdict(False, sentence=f"{name}: nothing was compared")
    if not bad:
        counts = f"{len(artifact.results)} layers, {len(artifact.weights)} tensors"
        if artifact.recorded:
            counts = f"{len(artifact.results)} of {len(layers)} layers, as far as was captured"
        return Verdict(True, sentence=f"{name} is the source: {counts}")
    layer = min(bad, key=lambda each: place.get(each, len(place)))
    tensor = artifact.wrong_weight(layer)
    cause = (
        (_of_weight(artifact, tensor, right) if tensor else "")
        or artifact.causes.get(layer, "")
        or wiring.order(checkpoint, artifact.runner, layer)
        or misread.get(layer, "")
    )
    return Verdict(
        passed=False,
        first_bad_layer=layer,
        tensor=tensor.name if tensor else "",
        cause=cause,
        sentence=_sentence(artifact, layer, tensor, cause),
    )


def _of_weight(artifact: Candidate, tensor: WeightResult, right: Mapping[str, Array]) -> str:
    found = artifact.runner.weights()
    if tensor.name not in right:
        return ""
    if tensor.name not in found:
        return f"a missing {tensor.name.rsplit('/', 1)[-1]}"
    return diagnose.weights(
        diagnose.Suspect(tensor.name, right[tensor.name], found[tensor.name], right, found)
    )


def _sentence(artifact: Candidate, layer: str, tensor: WeightResult | None, cause: str) -> str:
    text = f"{artifact.name} differs from the source at {layer}"
    problem = next((r.problem for r in artifact.results if r.layer == layer), "")
    if tensor:
        values = f"{tensor.different} of {tensor.size} values of {tensor.name} differ"
        if tensor.different:
            values += f" (at {tensor.worst}: {tensor.source:.6g} is {tensor.found:.6g})"
        text += f": {tensor.name} {tensor.problem}" if tensor.problem else f": {values}"
    elif problem:
        text += f": {problem}"
    return f"{text}; {cause}" if cause else text
