"""L2 layers alone on vectors so short that their epsilon shows, which images hardly ever give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from converters.checkpoint import Checkpoint, Layer
from verify import compare
from verify.arithmetic import FLOAT32, Arithmetic
from verify.candidate import Candidate, expected_alone, replayed_alone
from verify.capture import Array
from verify.norm_settings import CLAMPED, UNDER_THE_ROOT
from verify.rearranged import Outcome
from verify.result import LayerResult, Measure
from verify.settings import settings

__all__ = ["LENGTHS", "is_l2", "probe", "shortened"]

LENGTHS = tuple(10.0**exponent for exponent in range(-9, -2))
#: A TensorFlow 1 graph's L2 layers may be these, whose difference from the source is known.
_KNOWN = {"tf_graph": (CLAMPED, UNDER_THE_ROOT)}


def is_l2(layer: Layer) -> bool:
    """Whether a layer divides vectors by their length."""
    if layer.kind == "normalize":
        _, _, alpha, beta = layer.options["param"]
        return bool(alpha == 1 and beta == 0.5)
    return layer.kind == "layerWholeL2Normalize"


def probe(
    checkpoint: Checkpoint,
    layer: Layer,
    values: Array,
    artifacts: list[Candidate],
    arithmetic: Arithmetic = FLOAT32,
) -> None:
    """Replay an L2 layer of each artifact on `values` made short, and add the result to it."""
    batches = [
        held
        for made in shortened(values, whole=layer.kind == "layerWholeL2Normalize")
        for held in arithmetic.held(checkpoint, layer, [made])
    ]
    short = np.concatenate(batches)
    right = expected_alone(checkpoint, layer.name, [short])
    for artifact in artifacts:
        found, problem = _replayed(artifact, layer.name, batches)
        if found is None or (problem := compare.misfit(right, found)):
            artifact.results.append(LayerResult(layer.name, (), None, None, problem))
            continue
        own = compare.measure(right, found, artifact.limits(layer.name, right, own=True))
        if not own.passed:
            with np.errstate(divide="ignore", invalid="ignore"):  # what float16 holds may be zeros
                cause = settings(checkpoint, layer.name, Outcome([short], right.values, found))
            if cause in _KNOWN.get(artifact.runner.kind, ()):
                own = _allowed(own)
            else:
                artifact.causes[layer.name] = cause or "an epsilon"
        artifact.results.append(LayerResult(layer.name, found.shape, None, own))


def shortened(values: Array, *, whole: bool) -> list[Array]:
    """The same vectors at the lengths 1e-9 to 1e-3.

    values  N×…×C vectors, which get the lengths in turn; `whole`: N vectors, one for each image,
            which are given back at every length, a batch of N for each: an artifact may take no
            other.
    """
    axes = tuple(range(1, values.ndim)) if whole else (-1,)
    norms = np.sqrt(np.square(values.astype(np.float64)).sum(axis=axes, keepdims=True))
    unit = values / np.where(norms, norms, 1)
    if whole:
        return [(unit * length).astype(np.float32) for length in LENGTHS]
    lengths = np.resize(np.array(LENGTHS), norms.size).reshape(norms.shape)
    return [(unit * lengths).astype(np.float32)]


def _replayed(
    artifact: Candidate, layer: str, batches: Sequence[Array]
) -> tuple[Array | None, str]:
    found = []
    for batch in batches:
        values, problem = replayed_alone(artifact.runner, layer, [batch])
        if values is None:
            return None, problem
        found.append(values)
    return np.concatenate(found), ""


def _allowed(measure: Measure) -> Measure:
    """A named row, not a failure."""
    return replace(measure, limit=float("inf"), peak_limit=float("inf"))
