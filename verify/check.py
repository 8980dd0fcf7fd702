"""`netvlad-verify check`: what a conversion made, or any artifacts, against their source."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters import sandbox
from converters.checkpoint import Checkpoint
from converters.errors import ConversionError, ReadError
from verify import inputs_file, plugins
from verify.candidate import Failure
from verify.capture import Images, Runner
from verify.declared import as_declared, changes
from verify.folder import MANIFEST, open_folder
from verify.formats import open_artifact
from verify.gate import rankings
from verify.groups import compared
from verify.inputs import Inputs
from verify.loose_gate import explained
from verify.names import given
from verify.plugins import Plugin
from verify.reference import declared_crop, reference
from verify.report import repro
from verify.result import Report, merged
from verify.runners import captured
from verify.runners.layered import Layered
from verify.shown import shown, signed
from verify.tolerance import Tolerance
from verify.witness import witness

__all__ = ["Task", "artifacts", "folder", "run"]


def run(options: argparse.Namespace) -> bool:
    """The command: print the tables, write the reports, and say whether all is good.

    A folder that cannot be compared does not keep the others from it; it is raised at the end.
    """
    _contradictions(options)
    tolerance = Tolerance.parse(options.tolerance, options.atol or 0.0, options.rtol or 0.0)
    if options.loose is not None:
        tolerance = replace(tolerance, loose=options.loose)
    inputs = Inputs.asked(options)
    if options.reference:
        return shown(artifacts(options, tolerance, inputs), options.report)
    good, failures = True, []
    for path, place in _places(options):
        try:
            found = folder(
                path,
                place,
                inputs,
                tolerance,
                stream=options.stream,
                custom=tuple(options.plugin),
            )
            good = shown(found, place) and good
        except ConversionError as error:
            failures.append(error)
    if failures:
        raise failures[0] if len(failures) == 1 else ConversionError("\n".join(map(str, failures)))
    return good


def _contradictions(options: argparse.Namespace) -> None:
    """Raise `ConversionError` for what a folder's manifest says already, and for too little."""
    if not options.paths and not options.capture:
        raise ConversionError("there is nothing to compare", advice="Give a folder, or artifacts.")
    if options.capture and not (options.reference and options.image):
        raise ConversionError(
            "--capture needs --reference and --image",
            advice="Give the source, and the picture that the outputs were made from.",
        )
    for name in () if options.reference else ("dim", "names"):
        if getattr(options, name) is not None:
            raise ConversionError(
                f"--{name} goes with --reference",
                advice="Of a folder that convert made, its manifest says it.",
            )


def _places(options: argparse.Namespace) -> list[tuple[Path, Path]]:
    """Folders to compare, each with the one that its report goes into."""
    paths = _expanded(options.paths)
    if not options.report:
        return [(path, path) for path in paths]
    if len(paths) == 1:
        return [(paths[0], options.report)]
    return [(path, options.report / path.name) for path in paths]


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """Folders that convert made; of a folder that holds such folders, those."""
    made: list[Path] = []
    for path in paths:
        inside = sorted(p.parent for p in path.glob(f"[!.]*/{MANIFEST}"))
        inside = [p for p in inside if p.name != "release"]
        made += [path] if (path / MANIFEST).is_file() or not inside else inside
    return made


def folder(
    path: Path,
    place: Path,
    inputs: Inputs,
    tolerance: Tolerance,
    *,
    stream: bool = False,
    custom: tuple[Path, ...] = (),
) -> Report:
    """Everything that a manifest names, against the source that it names.

    A file that is not as the manifest says is reported, and compared all the same; what fails is
    kept below `place`. Raises `ReadError` where none of the artifacts is there.
    """
    made = open_folder(path)
    there = {p.name: p for p in made.artifacts if p.exists()}
    if not there:
        raise ReadError(
            path,
            "holds none of the artifacts of its manifest: there is nothing to compare",
            advice="run the conversion again",
        )
    crop = declared_crop(made.manifest)
    for source in () if custom or changes(made.manifest) else made.sources:
        if source.suffix == ".h5":  # perhaps Keras 2's weights, which nothing runs any more
            continue
        there[f"source {source.name}" if source.name in there else source.name] = source
    changed = {name.split("/")[0]: fault for name, fault in made.hashes.items()}
    task = Task(made.sources[0], crop, {}, inputs, tolerance, place, made.manifest, changed, custom)
    found = task.ranked(task.all(there, stream=stream), there)
    hashes = {**made.hashes, **found.hashes}
    return signed(replace(found, manifest=made.manifest, hashes=hashes))


def artifacts(options: argparse.Namespace, tolerance: Tolerance, inputs: Inputs) -> Report:
    """Any artifacts against any source, and what other programs made of the same net."""
    names = given.read(options.names) if options.names else {}
    task = Task(
        options.reference,
        options.dim,
        names,
        inputs,
        tolerance,
        options.report,
        plugins=tuple(options.plugin),
    )
    paths = {str(p): p for p in options.paths}
    found = [task.all(paths, stream=options.stream)] if paths else []
    if options.capture:
        found.append(task.recorded(options.capture, options.image, keep=not paths))
    return signed(task.ranked(merged(found), paths))


@dataclass(frozen=True, slots=True)
class Task:
    """What artifacts are compared with, and on what.

    source    with its whitening cut to `crop` outputs, if that is given.
    names     of somebody else's layers.
    place     where a failure is kept.
    manifest  of the folder that convert made; empty without one.
    changed   artifact -> how it is not as the manifest says.
    plugins   files with custom kinds of layers.
    """

    source: Path
    crop: int | None
    names: given.Names
    inputs: Inputs
    tolerance: Tolerance
    place: Path | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[Path, ...] = ()

    def all(self, paths: Mapping[str, Path], *, stream: bool) -> Report:
        """One report on all; with `stream` each in a process of its own, one at a time."""
        if not stream or len(paths) < 2:
            return self.together(paths)
        context = multiprocessing.get_context("spawn")
        found = []
        for name, path in paths.items():
            given = (sandbox.believed(),)
            with ProcessPoolExecutor(1, context, sandbox.believe, given) as pool:
                found.append(pool.submit(self.together, {name: path}).result())
        return merged(found)

    def ranked(self, found: Report, paths: Mapping[str, Path]) -> Report:
        """With the rankings of the images, if there are any."""
        folders = self.inputs.ranked
        if folders is None:
            return found
        return replace(found, rankings=rankings(paths, folders, self.names, self.manifest))

    def together(self, paths: Mapping[str, Path]) -> Report:
        """The artifacts are opened first: what opening costs is given back before the rest."""
        with plugins.used(self.plugins) as custom:
            return self._compared(paths, custom)

    def _compared(self, paths: Mapping[str, Path], custom: Sequence[Plugin]) -> Report:
        runners: dict[str, Runner] = {}
        unopened: dict[str, str] = {}
        for name, path in paths.items():
            try:
                runners[name] = open_artifact(path, self.names)
            except ReadError as error:
                if name not in self.changed:
                    raise
                unopened[name] = f"{self.changed[name]}, and cannot be opened: {error.reason}"
        checkpoint = self._reference(custom)
        # Inputs that a plugin adds stand for a number, not for a picture.
        small = {name for p in custom for row in p.inputs.values() for name, _ in row}
        images = self._kept(self.inputs.made(self.manifest, checkpoint, small))
        found = compared(checkpoint, runners, images, self.tolerance, self._keep, self.manifest)
        return replace(merged(found), hashes=unopened)

    def recorded(self, captures: Sequence[Path], picture: Path, *, keep: bool) -> Report:
        """What other programs made of one picture; it is kept with the report if `keep`."""
        checkpoint = self._reference()
        images = self.inputs.only(picture).made(self.manifest, checkpoint)
        if keep:
            self._kept(images)
        (batch,) = images.values()
        shapes = captured.shapes(checkpoint, batch)
        runners: dict[str, Runner] = {str(p): captured.open(p, shapes) for p in captures}
        found = witness(checkpoint, runners, images, self.tolerance)
        return explained(found, checkpoint, runners, images, self.tolerance)

    def _reference(self, custom: Sequence[Plugin] = ()) -> Checkpoint:
        checkpoint = plugins.with_inputs(reference(self.source, self.crop), custom)
        return as_declared(checkpoint, self.manifest)

    def _kept(self, images: dict[str, Images]) -> dict[str, Images]:
        """The inputs, which are kept with the report so that the run can be repeated."""
        if self.place is not None:
            inputs_file.write(self.place / "report", images)
        return images

    def _keep(self, artifact: str, runner: Runner, failure: Failure) -> None:
        """A failing layer, for others to run: `report/repro/`."""
        if self.place is None:
            return
        model = getattr(runner, "alone", lambda layer: None)(failure.layer)
        arrays = (failure.inputs, failure.expected.astype(np.float32), failure.found)
        if model is not None and isinstance(runner, Layered):
            arrays = runner.laid(failure.layer, *arrays)
        name = repro.folder_name(Path(artifact).name, failure.layer)
        folder = self.place / "report" / "repro" / name
        repro.write(folder, model, *arrays)
