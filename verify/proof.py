"""Proof without the source: artifacts beside a run of the oracle that was kept, `reference.npz`.

What is compared is what `check` compares, every layer in the whole run and alone, and the weights,
here by their sha256. Nothing of it needs the source's file or a library that reads one.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import ConversionError, ReadError
from verify import compare as comparison
from verify import witness
from verify.arithmetic import FLOAT16, FLOAT32, Arithmetic
from verify.candidate import Candidate
from verify.capture import RECORDED, Array, Runner, batches
from verify.formats import open_artifact
from verify.groups import QUANTISED, Outputs
from verify.names import given
from verify.near_zero import is_l2, probe
from verify.proof_file import FILENAME, Cost, Fingerprint, Kept, Proof, fingerprint, load
from verify.rearranged import Outcome, rearranged
from verify.reference import subtracts
from verify.result import Report, WeightResult, merged
from verify.shown import shown, signed
from verify.tolerance import Tolerance

__all__ = ["against", "asked", "run"]

#: Options of `check` that need a source, by their attribute, with what they are without one.
_OF_A_SOURCE: Mapping[str, Any] = {
    "reference": None, "dim": None, "capture": None, "inputs": None, "all_inputs": False,
    "image": None, "images": None, "database": None, "queries": None, "input_range": None,
    "loose": None, "plugin": [], "stream": False,
}  # fmt: skip


def asked(options: argparse.Namespace) -> bool:
    """Whether artifacts are to be compared without their source: a file is named, no source."""
    files = any(path.is_file() for path in options.paths)
    return options.against is not None or (options.reference is None and files)


def run(options: argparse.Namespace) -> bool:
    """The command: as `check`, for every artifact that is named."""
    if strange := [name for name, usual in _OF_A_SOURCE.items() if getattr(options, name) != usual]:
        raise ConversionError(
            f"--{strange[0].replace('_', '-')} needs the source, not {FILENAME}",
            advice="Name the source: --reference SOURCE ARTIFACT.",
        )
    if not options.paths:
        raise ConversionError("there is nothing to compare", advice="Give an artifact.")
    tolerance = Tolerance.parse(options.tolerance, options.atol or 0.0, options.rtol or 0.0)
    names = given.read(options.names) if options.names else {}
    beside: dict[Path, list[Path]] = {}
    for path in options.paths:
        beside.setdefault(options.against or _beside(path), []).append(path)
    proofs = {place: load(place) for place in beside}
    good = True
    for place, paths in beside.items():
        runners = {str(path): open_artifact(path, names) for path in paths}
        found = against(proofs[place], runners, tolerance)
        target = options.report
        if target and len(beside) > 1:
            target = target / place.parent.name
        good = shown(signed(found), target) and good
    return good


def _beside(path: Path) -> Path:
    place = path.parent / FILENAME
    if not place.is_file():
        raise ReadError(
            path,
            f"there is no {FILENAME} beside it to compare it with",
            advice="Give --against FILE, or the source: --reference SOURCE; or give a folder "
            "that convert made.",
        )
    return place


def against(
    proof: Proof, artifacts: Mapping[str, Runner], tolerance: Tolerance | None = None
) -> Report:
    """Compare every artifact with what was kept, by what its own numbers may cost.

    Of a file that says that it computes in int8 the outputs alone are compared. Raises
    `ConversionError` where an artifact cannot be run at all.
    """
    groups: dict[str, dict[str, Runner]] = {}
    for name, runner in artifacts.items():
        groups.setdefault(getattr(runner, "numbers", "float32"), {})[name] = runner
    variables = {layer.output: layer.name for layer in proof.checkpoint.layers if layer.output}
    found = []
    for numbers, group in groups.items():
        limits = tolerance or Tolerance()
        if numbers == "int8":
            group = {name: Outputs(runner, variables) for name, runner in group.items()}
            limits = replace(limits, rtol=QUANTISED)
        if numbers == "float16":
            _check_halved(proof)
        found.append(_compared(proof, group, limits, FLOAT16 if numbers == "float16" else FLOAT32))
    return merged(found)


def _check_halved(proof: Proof) -> None:
    if any(kept.halved is None for kept in proof.layers.values()):
        raise ConversionError(
            f"{FILENAME} does not say what float16 costs",
            advice="Make it again with this version: netvlad-verify reference.",
        )


def _compared(
    proof: Proof, artifacts: Mapping[str, Runner], tolerance: Tolerance, arithmetic: Arithmetic
) -> Report:
    checkpoint = proof.checkpoint
    tensors = {n: _tensors(proof.weights, runner, arithmetic) for n, runner in artifacts.items()}

    def candidates() -> list[Candidate]:
        return [
            Candidate(n, r, witness.tolerance_of(r, tolerance, arithmetic))
            for n, r in artifacts.items()
        ]

    walk = _Run(None, checkpoint, candidates(), arithmetic)
    for each in walk.artifacts:
        each.outputs, each.weights = each.runner.run(proof.images), tensors[each.name]
    short = [each for each in candidates() if each.runnable]
    rounding = walk.through(proof, short)
    shape = batches(proof.images)[0].shape
    regimes = [witness.regime(FILENAME, shape, walk, {})]
    if any(each.results for each in short):
        near_zero = _Run(None, checkpoint, short, arithmetic)
        regimes.append(witness.regime(witness.NEAR_ZERO, shape, near_zero, {}))
    source = checkpoint.origin.path.name
    sums = ", ".join(f"{name} sha256 {digest[:12]}…" for name, digest in proof.files.items())
    return Report(
        reference=f"{source}, as kept in {FILENAME}" + (f" ({sums})" if sums else ""),
        layers=tuple(proof.layers),
        regimes=tuple(regimes),
        rounding={FILENAME: rounding},
    )


class _Run(witness.Run):
    """As the witness's, with kept outputs in the place of the oracle's."""

    def through(self, proof: Proof, short: list[Candidate]) -> dict[str, float]:
        """Compare layer by layer; layer -> relative float32 rounding is returned."""
        layers = {layer.name: layer for layer in self.checkpoint.layers}
        read = {name for layer in layers.values() for name in layer.inputs}
        variables = {layer.output: layer.name for layer in layers.values() if layer.output}
        running = [artifact for artifact in self.artifacts if artifact.runner.layers]
        values = {name: kept.values.astype(np.float32) for name, kept in proof.layers.items()}
        entries = self._entries(proof)
        values |= entries
        for artifact in running:  # one may show its input
            for name in (each for each in entries if each in artifact.runner.layers):
                right = comparison.reference(entries[name].astype(np.float64))
                self.compare(artifact, name, [entries[name]], None, right)
        ends: dict[str, comparison.Reference] = {}
        rounding = {}
        names = ["input"] if subtracts(self.checkpoint) else []
        for name in (*names, *layers):
            kept = proof.layers.get(name)
            if kept is None:  # too large to be kept
                for artifact in running:
                    artifact.take(name)
                continue
            layer = layers.get(name)
            inputs = [values[n] for n in layer.inputs if n in values] if layer else []
            costs = self._costs(kept)
            own = _reference(kept, costs[0]) if costs[0] else None
            inherited = _reference(kept, costs[1])
            rounding[name] = (own or inherited).relative_rounding
            for artifact in running:
                self.compare(artifact, name, inputs, own, inherited)
            if layer and own and is_l2(layer):
                probe(self.checkpoint, layer, inputs[0], short, self.arithmetic)
            if name not in read or name in self.checkpoint.outputs:
                ends[name] = inherited
        for artifact in running:
            witness.leftovers(artifact)
            witness.deployed(artifact, proof.images, ends, variables)
        return rounding

    def _costs(self, kept: Kept) -> tuple[Cost | None, Cost]:
        """Of the layer alone, and in the whole net."""
        halved = kept.halved if self.arithmetic == FLOAT16 else None
        return halved or (kept.own, kept.inherited)

    def _entries(self, proof: Proof) -> dict[str, Array]:
        """The net's own inputs, where they are read as they are given."""
        if isinstance(proof.images, Mapping):
            return {name: values.astype(np.float32) for name, values in proof.images.items()}
        made = {"input"} if subtracts(self.checkpoint) else set()
        made |= {layer.name for layer in self.checkpoint.layers}
        entries = {name for layer in self.checkpoint.layers for name in layer.inputs} - made
        return {name: proof.images.astype(np.float32) for name in entries}

    def _cause(self, artifact: Candidate, name: str, outcome: Outcome) -> str:
        """What other settings of a layer would give needs its weights, which are not here."""
        return "" if artifact.wrong_weight(name) else rearranged(outcome)


def _reference(kept: Kept, cost: Cost) -> comparison.Reference:
    exact = comparison.reference(kept.values.astype(np.float64))
    return comparison.Reference(exact.values, exact.largest, exact.rms, cost.rounding, cost.peak)


def _tensors(
    right: Mapping[str, Fingerprint], runner: Runner, arithmetic: Arithmetic
) -> tuple[WeightResult, ...]:
    """Every tensor by its sha256, in the source's order; which value differs cannot be told."""
    if runner.kind == RECORDED:
        return ()
    found = runner.weights()
    results = []
    for name, expected in right.items():
        size = math.prod(expected.shape)
        problem = _problem(expected, found[name], arithmetic) if name in found else "is missing"
        results.append(WeightResult(name, size, 0, problem=problem))
    for name in found:
        if name not in right:
            problem = "the source has no such tensor"
            results.append(WeightResult(name, found[name].size, 0, problem=problem))
    return tuple(results)


def _problem(expected: Fingerprint, values: Array, arithmetic: Arithmetic) -> str:
    if values.shape != expected.shape:
        return f"has shape {values.shape}, the source {expected.shape}"
    here = fingerprint(values).sha256
    halved = arithmetic == FLOAT16 and values.dtype == np.float16
    right = expected.halved if halved else expected.sha256
    if values.dtype.kind == "f" and here == right:
        return ""
    rounded = ", rounded to float16," if halved else ""
    return f"is not the source's: sha256 {here[:12]}…, the source{rounded} {right[:12]}…"
