"""`netvlad-verify check`: what a conversion made, or any artifacts, against their source."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import multiprocessing
import platform
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from verify import regimes, report
from verify.candidate import Failure
from verify.capture import Array, Runner
from verify.folder import MANIFEST, open_folder
from verify.formats import open_artifact
from verify.names import given
from verify.reference import declared_crop, reference
from verify.report import repro, terminal
from verify.result import Regime, Report
from verify.tolerance import Tolerance
from verify.witness import witness

__all__ = ["Task", "artifacts", "folder", "run"]

_LIBRARIES = (
    *("netvlad-keras", "numpy", "scipy", "tensorflow", "tensorflow-cpu"),
    *("keras", "onnx", "onnxruntime"),
)


def run(options: argparse.Namespace) -> bool:
    """The command: print the tables, write the reports, and say whether all is good."""
    tolerance = Tolerance.parse(options.tolerance, options.atol or 0.0, options.rtol or 0.0)
    if options.reference:
        found = [(options.report, artifacts(options, tolerance))]
    else:
        found = [
            (options.report or path, folder(path, options, tolerance))
            for path in _expanded(options.paths)
        ]
    for place, each in found:
        print(terminal.render(each, Console()))
        if place:
            written = report.write_all(each, place)
            print(f"report: {written['html']}")
    return all(each.passed for _, each in found)


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """Folders that convert made; of a folder that holds such folders, those."""
    made: list[Path] = []
    for path in paths:
        inside = sorted(p.parent for p in path.glob(f"[!.]*/{MANIFEST}"))
        inside = [p for p in inside if p.name != "release"]
        made += [path] if (path / MANIFEST).is_file() or not inside else inside
    return made


def folder(path: Path, options: argparse.Namespace, tolerance: Tolerance) -> Report:
    """Everything that a manifest names, against the source that it names.

    A file that is not as the manifest says is reported, and compared all the same.
    """
    made = open_folder(path)
    crop = declared_crop(made.manifest)
    there = {p.name: p for p in made.artifacts if p.exists()}
    if not crop:
        there |= {source.name: source for source in made.sources}
    task = Task(
        made.sources[0],
        crop,
        {},
        _images(options, made.manifest),
        tolerance,
        options.report or path,
    )
    found = task.all(there, stream=options.stream)
    return _signed(replace(found, manifest=made.manifest, hashes=made.hashes))


def artifacts(options: argparse.Namespace, tolerance: Tolerance) -> Report:
    """Any artifacts against any source."""
    names = given.read(options.names) if options.names else {}
    task = Task(
        options.reference, options.dim, names, _images(options, {}), tolerance, options.report
    )
    return _signed(task.all({str(p): p for p in options.paths}, stream=options.stream))


@dataclass(frozen=True, slots=True)
class Task:
    """What artifacts are compared with, and on what; `place` is where a failure is kept."""

    source: Path
    crop: int | None
    names: given.Names
    images: Mapping[str, Array]
    tolerance: Tolerance
    place: Path | None = None

    def all(self, paths: Mapping[str, Path], *, stream: bool) -> Report:
        """One report on all; with `stream` each in a process of its own, one at a time."""
        if not stream or len(paths) < 2:
            return self.together(paths)
        context = multiprocessing.get_context("spawn")
        found = []
        for name, path in paths.items():
            with ProcessPoolExecutor(1, context) as pool:
                found.append(pool.submit(self.together, {name: path}).result())
        return _merged(found)

    def together(self, paths: Mapping[str, Path]) -> Report:
        """The artifacts are opened first: what opening costs is given back before the rest."""
        runners: dict[str, Runner] = {
            name: open_artifact(path, self.names) for name, path in paths.items()
        }
        checkpoint = reference(self.source, self.crop)
        return witness(checkpoint, runners, self.images, self.tolerance, self._keep)

    def _keep(self, artifact: str, runner: Runner, failure: Failure) -> None:
        """A failing layer, for others to run: `report/repro/`."""
        if self.place is None:
            return
        model = getattr(runner, "alone", lambda layer: None)(failure.layer)
        name = repro.folder_name(Path(artifact).name, failure.layer)
        expected = failure.expected.astype(np.float32)
        folder = self.place / "report" / "repro" / name
        repro.write(folder, model, failure.inputs, expected, failure.found)


def _merged(reports: Sequence[Report]) -> Report:
    """Reports on the same source and inputs, a column from each."""
    columns: dict[str, Regime] = {}
    for each in reports:
        for regime in each.regimes:
            before = columns.get(regime.name)
            joined = (*(before.columns if before else ()), *regime.columns)
            columns[regime.name] = replace(regime, columns=joined)
    return replace(reports[0], regimes=tuple(columns.values()))


def _images(options: argparse.Namespace, manifest: Mapping[str, Any]) -> dict[str, Array]:
    """The inputs that are made, of a fixed size where the artifact has one, and one's own."""
    contract = regimes.Contract(smallest=_smallest(manifest))
    names = options.inputs.split(",") if options.inputs else None
    fixed = manifest.get("onnx", {}).get("size")
    if fixed:
        contract = replace(contract, size=(int(fixed[0]), int(fixed[1])))
        names = names or ["photograph", "black"]
    found = regimes.regimes(contract, names)
    batch = manifest.get("onnx", {}).get("batch")
    if batch:
        found = {name: images[:1].repeat(batch, axis=0) for name, images in found.items()}
    if options.image:
        found[options.image.name] = regimes.given(options.image, contract)
    return found


def _smallest(manifest: Mapping[str, Any]) -> tuple[int, int]:
    given = manifest.get("input", {})
    return int(given.get("minimum_height", 23)), int(given.get("minimum_width", 23))


def _signed(found: Report) -> Report:
    """With what ran, and how it was called."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    command = " ".join(["netvlad-verify", *sys.argv[1:]])
    return replace(found, versions=versions, command=command)
