"""The way back: a net in a format that older programs read, read again before it is in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from converters import children, formats
from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import ConversionError, EnvironmentFailure, LayerError, MappingError
from converters.formats import BACK, Format
from converters.original import original
from converters.recognise import NETVLAD_KINDS
from converters.staging import flush
from converters.writers.sources import vgg16_netvlad

__all__ = ["Written", "back"]

Progress = Callable[[str], None]

#: hloc and netvlad_tf_open take pixel [0, 0] of an averageImage; that of one pixel becomes this.
_IMAGE = (224, 224)


@dataclass(frozen=True, slots=True)
class Written:
    """What was put in place.

    files    every file, a TF checkpoint's index last.
    tensors  how many of them were read back and found the same, bit for bit.
    remarks  what the format has otherwise than the source, in words.
    """

    files: tuple[Path, ...]
    tensors: int
    remarks: tuple[str, ...]


def back(
    source: Path,
    target: str,
    output: Path,
    *,
    any_size: bool = False,
    progress: Progress = lambda message: None,
) -> Written:
    """Write the net of `source` as `output` in the format `target`, a key of `formats.BACK`.

    `output` is the file, or a TF checkpoint's prefix. Sizes that the format's
    own program does not build are refused without `any_size`. Raises
    `LayerError` with all that the format cannot say, `MappingError` where what
    was written does not read back the same, and `EnvironmentFailure` where
    this machine cannot do it; nothing is left then.
    """
    form = _form(target, output)
    progress(f"read {source.name}")
    net, remarks = _prepared(original(formats.read(source)), target)
    _refuse_sizes(net, target, output, any_size)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.back-") as folder:
            new = Path(folder) / "new" / output.name
            new.parent.mkdir()
            progress(f"write {output.name}")
            _write(form, net, new, Path(folder) / "log")
            progress("read it back")
            count = _compare(net, formats.read(new), target)
            flush(new.parent)
            files = _put(new.parent, output.parent)
    except OSError as error:
        raise EnvironmentFailure(
            f"{output} cannot be written: {error.strerror or error}",
            advice="make room, or give an --output that you may write to",
        ) from error
    return Written(files, count, tuple(remarks))


def _form(target: str, output: Path) -> Format:
    if target not in BACK:
        raise ConversionError(f"unknown format {target}", advice=f"formats are {', '.join(BACK)}")
    form = BACK[target]
    formats.require(form)
    if form.filename and output.suffix != form.filename:
        raise ConversionError(
            f"{output}: a file of {target} ends with {form.filename}",
            advice=f"give --output {output.name}{form.filename}",
        )
    taken = output if form.filename else output.with_name(f"{output.name}.index")
    if taken.exists():
        raise EnvironmentFailure(
            f"{taken} is there already", advice="move it away, or give another --output"
        )
    return form


def _prepared(net: Checkpoint, target: str) -> tuple[Checkpoint, list[str]]:
    """The net as the format can hold it, and what had to change for that."""
    remarks = list(net.origin.notes)
    tensors = dict(net.tensors)
    if target == "mat":
        wide = [name for name, tensor in tensors.items() if tensor.dtype.itemsize < 4]
        custom = any(layer.kind in NETVLAD_KINDS for layer in net.layers)
        if custom and MEAN in tensors and tensors[MEAN].shape[:2] == (1, 1):
            tensors[MEAN] = np.broadcast_to(tensors[MEAN], (*_IMAGE, tensors[MEAN].shape[2]))
            remarks.append(f"averageImage has its one pixel {_IMAGE[0]}×{_IMAGE[1]} times")
        if custom:
            remarks.append("NetVLAD's layers are structs: MatConvNet loads them, but runs none")
    else:
        wide = [name for name, tensor in tensors.items() if tensor.dtype != np.float32]
        mean = tensors.get(MEAN)
        if mean is not None and (mean != mean[:1, :1]).any():
            remarks.append("of averageImage the first pixel, as NetVLAD takes it")
    for name in wide:
        tensors[name] = tensors[name].astype(np.float32)
    if wide:
        remarks.append(f"rounded to float32: {', '.join(wide)}")
    return replace(net, tensors=tensors), remarks


def _refuse_sizes(net: Checkpoint, target: str, output: Path, any_size: bool) -> None:
    program = vgg16_netvlad.PROGRAMS.get(target)
    if program is None:
        return
    vgg16_netvlad.refuse(net, output, program)
    if not any_size and (faults := vgg16_netvlad.unbuilt(net, program)):
        raise LayerError(
            output,
            faults,
            advice="its own code cannot load this; --any-size writes it for code that was changed",
        )


def _write(form: Format, net: Checkpoint, path: Path, log: Path) -> None:
    if "tensorflow" in form.libraries:  # its memory is given back, its voice is not heard
        children.run(log, _write_here, form, net, path)
    else:
        _write_here(form, net, path)


def _write_here(form: Format, net: Checkpoint, path: Path) -> None:
    formats.load(form).write(net, path)


def _put(folder: Path, place: Path) -> tuple[Path, ...]:
    """Move all that was written, an index last: a TF checkpoint that has one is whole."""
    files = sorted(folder.iterdir(), key=lambda file: (file.suffix == ".index", file.name))
    return tuple(file.rename(place / file.name) for file in files)


def _compare(net: Checkpoint, found: Checkpoint, target: str) -> int:
    """How many tensors came back the same. Raises `MappingError` with those that did not."""
    again = original(found)
    expected, tensors = _held(net, target), _held(again, target)
    misfits = {
        name: "was read back otherwise than it was written"
        for name in expected.keys() & tensors.keys()
        if not _same(expected[name], tensors[name])
    }
    if target == "mat" and list(map(_said, again.layers)) != list(map(_said, net.layers)):
        misfits["(layers)"] = "were read back otherwise than they were written"
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected or misfits:
        raise MappingError(missing, unexpected, misfits, advice="nothing was put in place")
    return len(expected)


def _held(net: Checkpoint, target: str) -> Mapping[str, Array]:
    """What the format holds of the tensors."""
    if target == "mat" or MEAN not in net.tensors:
        return net.tensors
    return {**net.tensors, MEAN: net.tensors[MEAN][:1, :1]}


def _same(first: Array, second: Array) -> bool:
    """Bit for bit; there is no NaN in a checkpoint."""
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and bool(np.array_equal(first, second))
        and bool(np.array_equal(np.signbit(first), np.signbit(second)))
    )


def _said(layer: Layer) -> Layer:
    """A DagNN gives every layer's output a name."""
    return replace(layer, output=layer.output or layer.name, options=dict(layer.options))
