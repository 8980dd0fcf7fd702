"""What is wrong first, and why: `judge`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from verify import diagnose
from verify.capture import Array, Runner
from verify.result import LayerResult, Verdict, WeightResult

__all__ = ["judge"]


def judge(
    name: str,
    runner: Runner,
    layers: Sequence[str],
    results: Sequence[LayerResult],
    causes: Mapping[str, str],
    weights: Sequence[WeightResult],
    right: Mapping[str, Array],
) -> Verdict:
    """The first bad layer in the source's order, what differs there, and why."""
    place = {name: index for index, name in enumerate(layers)}
    bad = [r.layer for r in results if not r.passed]
    tensors = [w for w in weights if not w.passed]
    bad += [w.name.rsplit("/", 1)[0] for w in tensors]
    if not bad and not results and not weights:
        return Verdict(False, sentence=f"{name}: nothing was compared")
    if not bad:
        sentence = f"{name} is the source: {len(results)} layers, {len(weights)} tensors"
        return Verdict(True, sentence=sentence)
    layer = min(bad, key=lambda each: place.get(each, len(place)))
    tensor = next((w for w in tensors if w.name.rsplit("/", 1)[0] == layer), None)
    cause = causes.get(layer, "")
    if tensor and not tensor.problem:
        found = runner.weights()
        suspect = diagnose.Suspect(
            tensor.name, right[tensor.name], found[tensor.name], right, found
        )
        cause = diagnose.weights(suspect) or cause
    return Verdict(
        passed=False,
        first_bad_layer=layer,
        tensor=tensor.name if tensor else "",
        cause=cause,
        sentence=_sentence(name, layer, results, tensor, cause),
    )


def _sentence(
    name: str,
    layer: str,
    results: Sequence[LayerResult],
    tensor: WeightResult | None,
    cause: str,
) -> str:
    text = f"{name} differs from the source at {layer}"
    problem = next((r.problem for r in results if r.layer == layer), "")
    if tensor:
        values = f"{tensor.different} of {tensor.size} values of {tensor.name} differ"
        if tensor.different:
            values += f" (at {tensor.worst}: {tensor.source:.6g} is {tensor.found:.6g})"
        text += f": {tensor.name} {tensor.problem}" if tensor.problem else f": {values}"
    elif problem:
        text += f": {problem}"
    return f"{text}; {cause}" if cause else text
