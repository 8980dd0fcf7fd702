"""`netvlad-verify check`: what a conversion made, or any artifacts, against their source."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.checkpoint import Checkpoint
from verify import regimes, report
from verify.capture import Array, Runner
from verify.folder import MANIFEST, open_folder
from verify.formats import open_artifact
from verify.names import given
from verify.reference import declared_crop, reference
from verify.result import Report
from verify.tolerance import Tolerance
from verify.witness import witness

__all__ = ["artifacts", "folder", "run"]

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
        print(report.render(each, "terminal"))
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
    checkpoint = reference(made.sources[0], declared_crop(made.manifest))
    runners = {p.name: open_artifact(p) for p in made.artifacts if p.exists()}
    if not declared_crop(made.manifest):
        runners |= {source.name: open_artifact(source) for source in made.sources}
    found = witness(checkpoint, runners, _images(options, made.manifest), tolerance)
    return _signed(replace(found, manifest=made.manifest, hashes=made.hashes))


def artifacts(options: argparse.Namespace, tolerance: Tolerance) -> Report:
    """Any artifacts against any source."""
    checkpoint: Checkpoint = reference(options.reference, options.dim)
    names = given.read(options.names) if options.names else {}
    runners: dict[str, Runner] = {str(p): open_artifact(p, names) for p in options.paths}
    return _signed(witness(checkpoint, runners, _images(options, {}), tolerance))


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
