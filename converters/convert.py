"""The pipeline: a source in, a folder of artifacts with their manifest out.

The only module that knows readers, maps and writers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import numpy as np

from converters import children, contract, formats, handoff, layermap, manifest, produce
from converters.checkpoint import Array, Checkpoint
from converters.derive import Derived, steps
from converters.errors import ConversionError, EnvironmentFailure, LayerError, MappingError
from converters.handoff import Spec
from converters.net import net_from, net_weights
from converters.plugins import Plugin
from converters.recognise import NETVLAD_KINDS, spec_from
from converters.sources import SourceFiles
from converters.staging import flush, replacing
from converters.transform import Change
from converters.writers.options import OPSETS, WriteOptions
from netvlad_keras.net import NetSpec
from netvlad_keras.spec import NetVLADSpec

__all__ = ["DEFAULT_FORMATS", "Request", "convert", "spec_of", "weights_of"]

DEFAULT_FORMATS = ("h5", "keras", "savedmodel", "onnx")

#: Below this many bytes of weights two writers run at a time.
_SMALL = 256 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert, and into what.

    source     files, name and licence, as `converters.sources` gives them.
    output     folder in which the artifact's own folder is made.
    formats    keys of `converters.formats.ARTIFACTS`.
    dimension  crop of a whitened descriptor, or None.
    options    for the ONNX file.
    changes    that make another net of it, in order (`converters.transform`).
    plugins    custom kinds of layers (`converters.plugins`).
    preprocess  the net subtracts its averageImage itself (a NetVLAD always does).
    derived    what is made of the ONNX file.
    command    as the user gave it, for the manifest.
    """

    source: SourceFiles
    output: Path
    formats: Sequence[str] = DEFAULT_FORMATS
    dimension: int | None = None
    options: WriteOptions = field(default_factory=WriteOptions)
    changes: Sequence[Change] = ()
    plugins: Sequence[Plugin] = ()
    preprocess: bool = False
    derived: Derived = field(default_factory=Derived)
    command: str = ""

    @property
    def name(self) -> str:
        """Of the artifact's folder."""
        return self.source.name + (f"_dim{self.dimension}" if self.dimension else "")


def spec_of(
    checkpoint: Checkpoint, plugins: Sequence[Plugin] = (), *, preprocess: bool = False
) -> Spec:
    """Which net a checkpoint is: a NetVLAD, or any other that MatConvNet has.

    Raises `LayerError` with every layer that cannot be carried.
    """
    is_matconvnet = checkpoint.origin.format == "matconvnet"
    if not is_matconvnet or any(layer.kind in NETVLAD_KINDS for layer in checkpoint.layers):
        try:
            return spec_from(checkpoint)
        except LayerError as error:
            if not is_matconvnet:
                raise
            with suppress(ConversionError):  # what the NetVLAD lacks says more
                return net_from(checkpoint, plugins, preprocess=preprocess)
            raise error from None
    return net_from(checkpoint, plugins, preprocess=preprocess)


def weights_of(checkpoint: Checkpoint, spec: Spec) -> dict[str, Array]:
    """A checkpoint's tensors under the model's names and axes.

    Raises `MappingError` with every tensor that does not fit.
    """
    if isinstance(spec, NetSpec):
        return net_weights(checkpoint, spec)
    table = import_module(f"converters.maps.{checkpoint.origin.format}").TABLE
    layers = [(layer.name, layer.kind, layer.params) for layer in checkpoint.layers]
    layers = layers or [(name, kind, ()) for name, kind in spec.layers]
    rules = layermap.expand(table, [("input", "input", ()), *layers])
    return layermap.apply(rules, checkpoint.tensors, spec.weight_shapes)


def convert(request: Request, progress: Progress = lambda message: None) -> Path:
    """Write the artifacts of a request; the folder that they are in is returned.

    Raises `ConversionError` for a source that is refused and
    `EnvironmentFailure` where this machine cannot do it. Either way the folder
    is as it was before.
    """
    target = request.output / request.name
    _check(request, target)
    for name in request.formats:
        formats.require(formats.ARTIFACTS[name])
    with replacing(target) as folder:
        scratch = folder / ".scratch"
        scratch.mkdir()
        record = _hand_over(request, scratch / "weights", progress)
        _write_all(request, record, folder, scratch, progress)
        shutil.rmtree(scratch)
        progress("manifest.json, MODEL_CARD.md")
        manifest.write(folder, target, record)
        progress("flush to the disk")
    return target


def _check(request: Request, target: Path) -> None:
    unknown = [name for name in request.formats if name not in formats.ARTIFACTS]
    if unknown:
        raise ConversionError(
            f"unknown format {', '.join(unknown)}",
            advice=f"formats are {', '.join(formats.ARTIFACTS)}",
        )
    request.derived.check(request.formats)
    if request.options.opset not in OPSETS:
        raise ConversionError(
            f"opset {request.options.opset} cannot be written",
            advice=f"choose one of {', '.join(map(str, OPSETS))}",
        )
    if target.exists() and not (target / manifest.FILENAME).is_file():
        raise EnvironmentFailure(
            f"{target} is there and holds no {manifest.FILENAME}: it is not ours to replace",
            advice="move it away, or give another --output",
        )


def _hand_over(request: Request, folder: Path, progress: Progress) -> manifest.Record:
    """Read the source, compare its files, and leave the weights where the writers find them."""
    found: list[tuple[Checkpoint, Spec, Mapping[str, Array]]] = []
    for path in request.source.paths:
        progress(f"read {path.name}")
        checkpoint = formats.read(path)
        for change in request.changes:
            checkpoint = change.apply(checkpoint)
        progress(f"map {len(checkpoint.tensors)} tensors")
        spec = spec_of(checkpoint, request.plugins, preprocess=request.preprocess)
        found.append((checkpoint, spec, weights_of(checkpoint, spec)))
    checkpoint, spec, arrays = found[0]
    for other, _, others in found[1:]:
        _compare(checkpoint, arrays, other, others)
    spec = replace(spec, name=spec.name or request.source.name)
    if min(request.options.size or (spec.minimum_size,)) < spec.minimum_size:
        raise ConversionError(
            f"a fixed size of {request.options.size} is too small",
            advice=f"this net takes images of at least {spec.minimum_size}×{spec.minimum_size}",
        )
    transformations = [change.words for change in request.changes] + _narrowed(arrays)
    if isinstance(spec, NetSpec) and spec.mean is not None:
        transformations.append("averageImage is subtracted inside")
    if request.dimension:
        spec, arrays = _cropped(spec, arrays, request.dimension)
        transformations.append(
            f"WPCA cropped to its first {request.dimension} outputs, L2-normalised again"
        )
    transformations += request.derived.words
    handoff.save(folder, spec, arrays)
    progress("hash the source")
    return manifest.Record(
        request=request,
        spec=spec,
        origins=tuple(checkpoint.origin for checkpoint, _, _ in found),
        sources=manifest.fingerprints(checkpoint.origin.files for checkpoint, _, _ in found),
        parameters=sum(array.size for array in arrays.values()),
        transformations=tuple(transformations),
        preprocessing=contract.published(checkpoint),
    )


def _compare(
    first: Checkpoint, arrays: Mapping[str, Array], second: Checkpoint, others: Mapping[str, Array]
) -> None:
    """Two files of one net must hold the same numbers, bit for bit."""
    where = f"{first.origin.path} and {second.origin.path}"
    if arrays.keys() != others.keys():
        raise MappingError(
            missing=sorted(arrays.keys() - others.keys()),
            unexpected=sorted(others.keys() - arrays.keys()),
            advice=f"{where} are not the same net",
        )
    misfits = {}
    for name, array in arrays.items():
        other = others[name]
        if array.shape != other.shape:
            misfits[name] = f"shapes {array.shape} and {other.shape}"
        elif not np.array_equal(array, other):
            count = int(np.count_nonzero(array != other))
            misfits[name] = f"{count} of {array.size} values differ"
    if misfits:
        raise MappingError(misfits=misfits, advice=f"{where} are not the same net; give one")


def _narrowed(arrays: Mapping[str, Array]) -> list[str]:
    wide = [name for name, array in arrays.items() if array.dtype.itemsize > 4]
    return [f"rounded from float64 to float32: {', '.join(wide)}"] if wide else []


def _cropped(
    spec: Spec, arrays: Mapping[str, Array], dimension: int
) -> tuple[NetVLADSpec, dict[str, Array]]:
    if not isinstance(spec, NetVLADSpec):
        raise ConversionError("--dim cuts a NetVLAD's descriptor; this is another net")
    try:
        cropped = spec.cropped(dimension)
    except ValueError as error:
        raise ConversionError(f"--dim {dimension}: {error}") from error
    own = {name: arrays[name][..., :dimension] for name in ("WPCA/kernel", "WPCA/bias")}
    return cropped, {**arrays, **own}


def _write_all(
    request: Request, record: manifest.Record, folder: Path, scratch: Path, progress: Progress
) -> None:
    """Each group of artifacts in a process of its own; of a small net two at a time.

    What is written goes to the disk while the next process computes.
    """
    options = replace(request.options, metadata=manifest.metadata(record))

    def one(names: Sequence[str]) -> list[Future[None]]:
        paths = {name: folder / formats.ARTIFACTS[name].filename for name in names}
        log = scratch / f"{names[0]}.log"
        progress(f"build the model for {', '.join(names)}")
        work = paths, scratch / "weights", options, [p.path for p in request.plugins]
        for step in children.follow(log, produce.write, *work):
            progress(step)
        if "onnx" in paths:
            for step in children.follow(log, steps, paths["onnx"], request.derived, options):
                progress(step)
            progress(f"check {paths['onnx'].name}")
            children.run(log, produce.check_onnx, paths["onnx"])
        return [disk.submit(flush, path) for path in paths.values()]

    writers = 2 if 4 * record.parameters < _SMALL else 1
    with ThreadPoolExecutor(1) as disk, ThreadPoolExecutor(writers) as pool:
        for flushes in pool.map(one, _groups(request.formats)):
            for flushed in flushes:
                flushed.result()


def _groups(names: Sequence[str]) -> list[list[str]]:
    """Formats that are written with the same libraries share a process, in the table's order."""
    wanted = [fmt for name, fmt in formats.ARTIFACTS.items() if name in names]
    libraries = dict.fromkeys(fmt.libraries for fmt in wanted)
    return [[fmt.name for fmt in wanted if fmt.libraries == group] for group in libraries]
