"""`manifest.json` and `MODEL_CARD.md`: what was made, from what, with what."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import metadata as distributions
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from converters import contract, formats
from converters.checkpoint import Origin
from converters.handoff import Spec
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
    "onnxruntime",
    "onnxslim",
    "protobuf",
]


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a conversion once its source is read.

    sources          path -> sha256, size in bytes.
    transformations  what makes the artifacts differ from the source, in words.
    preprocessing    `meta.normalization` as the source has it.
    """

    request: Request
    spec: Spec
    origins: tuple[Origin, ...]
    sources: dict[Path, tuple[str, int]]
    parameters: int
    transformations: tuple[str, ...]
    preprocessing: dict[str, Any] = field(default_factory=dict)


def fingerprints(files: Iterable[tuple[Path, ...]]) -> dict[Path, tuple[str, int]]:
    """sha256 and size of every file."""
    return {path: (_sha256(path), path.stat().st_size) for paths in files for path in paths}


def metadata(record: Record) -> dict[str, str]:
    """What an ONNX file says of itself: the contract, the source, the licence."""
    source = record.request.source
    return {
        "name": record.request.name,
        "spec": json.dumps(record.spec.to_dict()),
        "inputs": json.dumps(contract.inputs(record.spec)),
        "outputs": json.dumps(contract.outputs(record.spec)),
        "preprocessing": contract.preprocessing(record.spec),
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
        "inputs": contract.inputs(record.spec),
        "outputs": contract.outputs(record.spec),
        "preprocessing": record.preprocessing,
        "transformations": list(record.transformations),
        "onnx": _onnx(record),
        "versions": _versions(),
        "environment": {"TF_ENABLE_ONEDNN_OPTS": "0"},
        "command": record.request.command,
    }
    (folder / "MODEL_CARD.md").write_text(_card(record), encoding="utf-8")
    contents["files"] = _files(folder)
    (folder / FILENAME).write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n")


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
    made = (*formats.ARTIFACTS.values(), *formats.DERIVED.values())
    kinds = {fmt.filename: fmt.name for fmt in made}
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
    common = {
        "name": record.request.name,
        "notice": f"> **{source.notice[0].upper()}{source.notice[1:]}.**\n\n"
        if source.notice
        else "",
        "net": record.spec.name or source.name,
        "parameters": f"{record.parameters:,}",
        "megabytes": f"{4 * record.parameters / 1e6:.0f}",
        "minimum": record.spec.minimum_size,
        "transformations": "".join(f"- {line}\n" for line in record.transformations) or "- none\n",
        "sources": "".join(
            f"- `{path.name}`, {size:,} bytes, sha256 `{sha256}`\n"
            for path, (sha256, size) in record.sources.items()
        ),
        "licence": source.licence,
        "citation": source.citation,
    }
    if isinstance(record.spec, NetVLADSpec):
        return _filled("model_card.md", {**common, **_descriptor(record.spec)})
    return _filled("net_card.md", {**common, **_net(record)})


def _filled(template: str, values: dict[str, Any]) -> str:
    text = resources.files("converters").joinpath(f"data/{template}").read_text("utf-8")
    return Template(text).substitute(values)


def _descriptor(spec: NetVLADSpec) -> dict[str, Any]:
    crop = (
        "Descriptors may be cut to their first D dimensions and L2-normalised again."
        if spec.whitening
        else "Descriptors must not be cut: without whitening their order carries no meaning."
    )
    return {"dimension": spec.dimension, "crop": crop}


def _net(record: Record) -> dict[str, Any]:
    """Of any other net: nothing that its file does not say."""
    spec = record.spec
    inputs = [(e["name"], e["shape"][-1]) for e in contract.inputs(spec)]
    names = [name for _, name in spec.outputs]
    arrays = ", ".join(f'"{name}": {_variable(name)}' for name, _ in inputs)
    said = record.preprocessing
    return {
        "layers": len(spec.layers),
        "inputs": "".join(
            f"- **Input** `{name}`: [batch, height, width, {channels}], float32.\n"
            for name, channels in inputs
        ),
        "outputs": "".join(f"- **Output** `{name}`.\n" for name in names),
        "zeros": "\n".join(
            f"{_variable(name)} = np.zeros((1, {spec.minimum_size}, {spec.minimum_size}, "
            f"{channels}), np.float32)"
            for name, channels in inputs
        ),
        "feeds": f"{{{arrays}}}",
        "fetches": json.dumps(names),
        "preprocessing": "".join(f"- {key}: {value}\n" for key, value in said.items())
        or "- The file says nothing of it.\n",
        "inside": contract.preprocessing(spec),
    }


def _variable(name: str) -> str:
    found = "".join(c if c.isalnum() else "_" for c in name)
    return found if found.isidentifier() else f"x_{found}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
