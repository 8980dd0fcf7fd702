"""`manifest.json` and `MODEL_CARD.md`: what was made, from what, with what."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata as distributions
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from converters import formats
from converters.checkpoint import Origin
from netvlad_keras.spec import NetVLADSpec

if TYPE_CHECKING:
    from converters.convert import Request

__all__ = ["FILENAME", "Record", "fingerprints", "metadata", "write"]

FILENAME = "manifest.json"

#: Libraries whose versions can change an artifact's bytes.
_LIBRARIES = [
    "netvlad-keras",
    "numpy",
    "scipy",
    "h5py",
    "mat-io",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "tf2onnx",
    "onnx",
    "protobuf",
]


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a conversion once its source is read.

    sources          path -> sha256, size in bytes.
    transformations  what makes the artifacts differ from the source, in words.
    """

    request: Request
    spec: NetVLADSpec
    origins: tuple[Origin, ...]
    sources: dict[Path, tuple[str, int]]
    parameters: int
    transformations: tuple[str, ...]


def fingerprints(files: Iterable[tuple[Path, ...]]) -> dict[Path, tuple[str, int]]:
    """sha256 and size of every file."""
    return {path: (_sha256(path), path.stat().st_size) for paths in files for path in paths}


def metadata(record: Record) -> dict[str, str]:
    """What an ONNX file says of itself: the contract, the source, the licence."""
    source = record.request.source
    return {
        "name": record.request.name,
        "spec": json.dumps(record.spec.to_dict()),
        "input": json.dumps(_input(record)),
        "output": json.dumps(_output(record)),
        "preprocessing": "none but decoding to RGB, 0 to 255: the mean is subtracted inside",
        "minimum_size": str(record.spec.minimum_size),
        "source": source.name,
        "source_sha256": json.dumps(
            {path.name: sha256 for path, (sha256, _) in record.sources.items()}
        ),
        "transformations": json.dumps(record.transformations),
        "licence": source.licence,
        "citation": source.citation,
        "notice": source.notice,
    }


def write(folder: Path, target: Path, record: Record) -> None:
    """Write the manifest and the card of the artifacts in `folder`, which becomes `target`."""
    contents = {
        "schema": 1,
        "name": record.request.name,
        "notice": record.request.source.notice,
        "licence": record.request.source.licence,
        "source": {
            "name": record.request.source.name,
            "files": [_source(path, target, record) for path in record.sources],
            "session": record.origins[0].session,
            "notes": [note for origin in record.origins for note in origin.notes],
        },
        "spec": record.spec.to_dict(),
        "layers": [name for name, _ in record.spec.layers],
        "parameters": record.parameters,
        "input": _input(record),
        "output": _output(record),
        "transformations": list(record.transformations),
        "onnx": _onnx(record),
        "versions": _versions(),
        "environment": {"TF_ENABLE_ONEDNN_OPTS": "0"},
        "command": record.request.command,
    }
    (folder / "MODEL_CARD.md").write_text(_card(record), encoding="utf-8")
    contents["files"] = _files(folder)
    (folder / FILENAME).write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n")


def _input(record: Record) -> dict[str, Any]:
    smallest = record.spec.minimum_size
    return {
        "name": "image",
        "shape": ["batch", "height", "width", 3],
        "dtype": "float32",
        "colours": "RGB",
        "range": [0, 255],
        "minimum_height": smallest,
        "minimum_width": smallest,
    }


def _output(record: Record) -> dict[str, Any]:
    return {
        "name": "descriptor",
        "shape": ["batch", record.spec.dimension],
        "dtype": "float32",
        "norm": 1,
    }


def _onnx(record: Record) -> dict[str, Any]:
    options = asdict(record.request.options)
    del options["metadata"]
    return options


def _source(path: Path, target: Path, record: Record) -> dict[str, Any]:
    origin = next(origin for origin in record.origins if path in origin.files)
    sha256, size = record.sources[path]
    return {
        "path": record.request.source.locate(path) or _relative(path, target),
        "format": origin.format,
        "size": size,
        "sha256": sha256,
    }


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _files(folder: Path) -> dict[str, Any]:
    kinds = {fmt.filename: fmt.name for fmt in formats.ARTIFACTS.values()}
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found[name] = {
            "format": kinds.get(name.split("/")[0], "text"),
            "size": path.stat().st_size,
            "sha256": _sha256(path),
        }
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            continue
    return found


def _card(record: Record) -> str:
    source = record.request.source
    spec = record.spec
    crop = (
        "Descriptors may be cut to their first D dimensions and L2-normalised again."
        if spec.whitening
        else "Descriptors must not be cut: without whitening their order carries no meaning."
    )
    text = resources.files("converters").joinpath("data/model_card.md").read_text("utf-8")
    return Template(text).substitute(
        name=record.request.name,
        notice=f"> **{source.notice[0].upper()}{source.notice[1:]}.**\n\n" if source.notice else "",
        net=spec.name,
        parameters=f"{record.parameters:,}",
        megabytes=f"{4 * record.parameters / 1e6:.0f}",
        minimum=spec.minimum_size,
        dimension=spec.dimension,
        crop=crop,
        transformations="".join(f"- {line}\n" for line in record.transformations) or "- none\n",
        sources="".join(
            f"- `{path.name}`, {size:,} bytes, sha256 `{sha256}`\n"
            for path, (sha256, size) in record.sources.items()
        ),
        licence=source.licence,
        citation=source.citation,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
