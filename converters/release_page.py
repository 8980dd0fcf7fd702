"""`index.html`, the front page of a release: what each file is, what speaks for it, how it is used,
and a place to try it.

It opens from the disk. All that it asks for lies beside it: `web/`, which holds ONNX Runtime for
the browser, and the nets. Its own policy allows it nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from converters import release_page_runtime as runtime
from converters.errors import ConversionError
from converters.manifest import FILENAME
from converters.release_page_verdict import Verdict, verdict

__all__ = ["PAGE", "WEB", "File", "Laid", "Net", "describe", "write"]

PAGE, WEB = "index.html", "web"

#: The endings of released files, those first that are asked for most, and what such a file is.
_KINDS = {
    ".onnx": "ONNX: the net, with the mean inside",
    ".keras": "Keras 3",
    ".weights.h5": "the weights alone, for netvlad-keras",
    ".h5": "Keras 3, as one HDF5 file",
    "-saved_model.zip": "TensorFlow SavedModel; every layer by its name",
    "reference.npz": "every layer's right output, for netvlad-verify",
    "input_0.pb": "an input to test with",
    "output_0.pb": "and what ONNX Runtime makes of it",
    FILENAME: "what was made, from what, with what",
    "MODEL_CARD.md": "how to use each file, and its licence",
}
_DERIVED = {"fp16": ", float16 weights and activations", "int8": ", int8 weights"}

#: By hand, with the default net; tests hold the browser to 1e-4.
_MEASURED = (
    "Measured with the VGG-16 net in Chromium 156, on ten JPEG photographs at 320 and 640 pixels: "
    "descriptors within a cosine distance of 3e-12 of ONNX Runtime’s in Python. Such a net takes "
    "about 15 s for a photograph of 640 pixels."
)


@dataclass(frozen=True, slots=True)
class Laid:
    """A net as `converters.release` laid it out.

    source  the folder that `convert` made, with the report of `verify` if there is one.
    folder  the released one, with its SHA256SUMS.
    names   of a file in `source` -> of the same in `folder`.
    """

    source: Path
    folder: Path
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class File:
    """One file of a net; `address` is its URL from the page."""

    name: str
    address: str
    words: str
    size: int
    sha256: str
    original: str


@dataclass(frozen=True, slots=True)
class Net:
    """One net, in words and numbers. `smallest`: side of the smallest picture, in pixels."""

    name: str
    notice: str
    licence: str
    parameters: int
    dimension: int
    smallest: int
    files: tuple[File, ...]
    verdict: Verdict

    def named(self, name: str) -> File | None:
        """The released file of that name, or with that ending."""
        return next((file for file in self.files if file.name.endswith(name)), None)

    @property
    def models(self) -> tuple[File, ...]:
        """The ONNX files, the float32 one first."""
        return tuple(file for file in self.files if file.name.endswith(".onnx"))


def write(folder: Path, laid: Sequence[Laid], package: Path | None = None) -> None:
    """Write the page, and `web/` out of npm's `package`; without one there is no try-out."""
    nets = tuple(describe(each) for each in laid)
    if package is not None:
        runtime.pack(package, folder / WEB)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("converters", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(megabytes=_megabytes, python=_python)
    text = environment.get_template("index.html.j2").render(
        nets=nets,
        models=tuple((net, model) for net in nets for model in net.models),
        largest=max(nets, key=lambda net: net.parameters),
        facts=_facts(nets) if package is not None else None,
        runtime=runtime,
        web=WEB,
        measured=_MEASURED,
        style=_inlined("style.css"),
        script=_inlined("script.js"),
        worker=_inlined("worker.js"),
    )
    (folder / PAGE).write_text(text, "utf-8")


def describe(laid: Laid) -> Net:
    """What the manifest, the checksums and the report of a net say.

    Raises `ConversionError` for a manifest that is not of a NetVLAD, or of an older version.
    """
    try:
        return _described(laid, json.loads((laid.folder / FILENAME).read_text("utf-8")))
    except (ValueError, LookupError, TypeError) as error:
        raise ConversionError(
            f"{laid.source / FILENAME}: not what this version writes for a NetVLAD ({error!r})",
            advice="convert it again",
        ) from error


def _described(laid: Laid, manifest: Mapping[str, Any]) -> Net:
    originals = {after: before for before, after in laid.names.items()}
    lines = (laid.folder / "SHA256SUMS").read_text("utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    (output,) = manifest["outputs"]
    return Net(
        name=manifest["name"],
        notice=manifest["notice"],
        licence=manifest["licence"],
        parameters=manifest["parameters"],
        dimension=output["shape"][-1],
        smallest=manifest["inputs"][0]["minimum_height"],
        files=tuple(
            File(
                name=name,
                address=quote(f"{laid.folder.name}/{name}"),
                words=_words(name),
                size=(laid.folder / name).stat().st_size,
                sha256=sums[name],
                original=originals.get(name, ""),
            )
            for name in sorted(sums, key=_place)
        ),
        verdict=verdict(laid.source, manifest),
    )


def _words(name: str) -> str:
    return _KINDS.get(_ending(name), "") + _derived(name)


def _ending(name: str) -> str:
    return next((ending for ending in _KINDS if name.endswith(ending)), "")


def _derived(name: str) -> str:
    return next((words for part, words in _DERIVED.items() if f"-{part}-opset" in name), "")


def _place(name: str) -> tuple[int, str, str]:
    return [*_KINDS, ""].index(_ending(name)), _derived(name), name


def _facts(nets: Sequence[Net]) -> dict[str, Any]:
    """For the script: where the runtime lies, and the nets that it can run."""
    models = [
        {
            "name": model.name,
            "file": model.address,
            "size": model.size,
            "sha256": model.sha256,
            "smallest": net.smallest,
            "notice": net.notice,
        }
        for net in nets
        for model in net.models
    ]
    return {"runtime": f"{WEB}/{runtime.SCRIPT}", "nets": models}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def _python(text: str) -> str:
    """As a literal."""
    return json.dumps(text, ensure_ascii=False)


def _inlined(name: str) -> dict[str, Markup]:
    """A file of the page with the hash by which its policy knows it."""
    text = resources.files("converters").joinpath("page", name).read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": Markup(f"'sha256-{digest}'")}
