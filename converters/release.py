"""Lays out what people download: `python -m converters.release`, `nox -s release`.

For each net below the artifacts' folder, `release/<name>/` holds
`<name>-opset18.onnx` with a `test_data_set_0` as the ONNX Model Zoo has it,
the other formats, the card, the manifest and `SHA256SUMS`. Beside the ONNX file
lies `reference.npz`, with which `netvlad-verify` proves it where the source is not.
`release/index.html` tells of all of them and runs the ONNX files in a browser.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from converters import release_page, release_page_runtime
from converters.errors import ConversionError, EnvironmentFailure
from converters.manifest import FILENAME
from converters.staging import replacing

__all__ = ["lay_out", "main"]

_FOLDER = "release"
_SUMS = "SHA256SUMS"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def lay_out(
    artifacts: Path,
    names: Sequence[str] = (),
    *,
    proof: bool = True,
    package: Path | None = None,
) -> Path:
    """Make `artifacts/release/` anew from the nets `names`, or from all that are there.

    proof    with a `reference.npz` for each, which needs its source.
    package  what `release_page_runtime.fetch` gives; without it the page has no try-out.

    Raises `ConversionError` for a net that is not there or whose files are not
    those of its manifest, and `EnvironmentFailure` for one whose reference cannot
    be made, before anything is replaced.
    """
    found = sorted(p.parent.name for p in artifacts.glob(f"[!.]*/{FILENAME}"))
    nets = list(names) or [name for name in found if name != _FOLDER]
    if missing := sorted(set(nets) - set(found)):
        raise ConversionError(
            f"{artifacts} holds no {', '.join(missing)}", advice="run nox -s convert first"
        )
    if not nets:
        raise EnvironmentFailure(f"{artifacts} holds no net", advice="run nox -s convert first")
    with replacing(artifacts / _FOLDER) as folder:
        laid = [_one(artifacts / name, folder / name, proof) for name in nets]
        release_page.write(folder, laid, package)
        pages = [folder / release_page.PAGE, *(folder / release_page.WEB).glob("*")]
        _sums(folder, [*pages, *(each.folder / _SUMS for each in laid)])
    return artifacts / _FOLDER


def _one(source: Path, target: Path, proof: bool) -> release_page.Laid:
    manifest = json.loads((source / FILENAME).read_text(encoding="utf-8"))
    _verify(source, manifest["files"])
    target.mkdir()
    renamed = _names(source, manifest)
    for before, after in renamed.items():
        if (source / before).is_dir():
            _zip(source / before, target / after)
        elif (source / before).exists():
            _place(source / before, target / after)
    if (source / "model.onnx").exists():
        _test_data(target / renamed["model.onnx"], target / "test_data_set_0")
        if proof:
            _reference(source, target / "reference.npz")
    _sums(target, [path for path in target.rglob("*") if path.is_file()])
    return release_page.Laid(source, target, renamed)


def _names(source: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """What each file of a conversion is called when it is released."""
    name, opset = manifest["name"], manifest["onnx"]["opset"]
    if not name.isprintable() or not name or Path(name).name != name:
        raise ConversionError(
            f"{source / FILENAME}: {name!r} cannot be part of a file's name",
            advice="convert it again",
        )
    return {
        "model.onnx": f"{name}-opset{opset}.onnx",
        "model_fp16.onnx": f"{name}-fp16-opset{opset}.onnx",
        "model_int8.onnx": f"{name}-int8-opset{opset}.onnx",
        "model.keras": f"{name}.keras",
        "model.h5": f"{name}.h5",
        "model.weights.h5": f"{name}.weights.h5",
        "saved_model": f"{name}-saved_model.zip",
        FILENAME: FILENAME,
        "MODEL_CARD.md": "MODEL_CARD.md",
    }


def _reference(source: Path, target: Path) -> None:
    """By the witness, as a command: what converts does not know what checks it."""
    command = ["-m", "verify", "reference", str(source), "--output", str(target)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFailure(
            f"{source}: no reference.npz could be made: {done.stderr.strip()}",
            advice="To release it without one: --no-reference",
        )


def _verify(source: Path, files: dict[str, dict[str, object]]) -> None:
    """What is released is what was converted."""
    wrong = [
        name
        for name, facts in files.items()
        if not (source / name).is_file() or _sha256(source / name) != facts["sha256"]
    ]
    if wrong:
        raise ConversionError(
            f"{source}: not as its manifest says: {', '.join(wrong)}", advice="convert it again"
        )


def _place(source: Path, target: Path) -> None:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _zip(source: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(source.parent).as_posix(), _EPOCH)
            with path.open("rb") as reading, archive.open(entry, "w", force_zip64=True) as writing:
                shutil.copyfileobj(reading, writing, 1 << 20)


def _test_data(model: Path, folder: Path) -> None:
    """An input and what ONNX Runtime makes of it, as TensorProto files."""
    session = onnxruntime.InferenceSession(str(model))
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else _SIZES[size] for size in given.shape]
    dtype = np.uint8 if given.type == "tensor(uint8)" else np.float32
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    (descriptor,) = session.run(["descriptor"], {"image": image})
    folder.mkdir()
    for file, name, values in (("input", "image", image), ("output", "descriptor", descriptor)):
        tensor = onnx.numpy_helper.from_array(values, name)
        (folder / f"{file}_0.pb").write_bytes(tensor.SerializeToString(deterministic=True))


_SIZES = {"batch": 1, "height": 96, "width": 128, "channels": 3}


def _sums(folder: Path, files: Iterable[Path]) -> None:
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(files)]
    (folder / _SUMS).write_text("".join(lines), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _package() -> Path | None:
    """ONNX Runtime for the page; None where there is neither a network nor a cached one."""
    try:
        return release_page_runtime.fetch()
    except EnvironmentFailure as error:
        print(f"release: index.html has no try-out: {error}", file=sys.stderr)
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 done, 1 refused, 2 could not run."""
    parser = argparse.ArgumentParser(prog="python -m converters.release", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every net that is there")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), metavar="DIR")
    parser.add_argument("--no-reference", action="store_true", help="leave reference.npz out")
    parser.add_argument("--no-try-out", action="store_true", help="the page without ONNX Runtime")
    options = parser.parse_args(arguments)
    try:
        package = None if options.no_try_out else _package()
        proof = not options.no_reference
        folder = lay_out(options.artifacts, options.names, proof=proof, package=package)
    except ConversionError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2 if isinstance(error, EnvironmentFailure) else 1
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"{path.stat().st_size:>12,}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
