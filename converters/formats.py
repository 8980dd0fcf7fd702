"""What this project reads and writes, as constant tables.

The modules are reached by name through `load`, so that naming a format costs
nothing and needs none of its libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from converters import sandbox
from converters.checkpoint import Checkpoint
from converters.errors import EnvironmentFailure

__all__ = ["ARTIFACTS", "BACK", "DERIVED", "SOURCES", "Format", "load", "read", "require"]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    name      what the command line calls it.
    filename  of an artifact in its folder; of a source, what it usually ends with.
    module    that reads or writes it.
    extra      the extra of this distribution that brings the module's libraries.
    libraries  that the module imports and the base does not bring.
    """

    name: str
    filename: str
    module: str
    extra: str = ""
    libraries: tuple[str, ...] = ()


_KERAS = ("tensorflow", "keras")
_SOURCES = (
    Format("matconvnet", ".mat", "converters.readers.matconvnet", "convert"),
    Format("tf_checkpoint", ".index", "converters.readers.tf_checkpoint"),
    Format("keras_h5", ".h5", "converters.readers.keras_h5"),
    Format("hloc", ".safetensors", "converters.readers.safetensors", "convert"),
    Format("pytorch_netvlad", ".safetensors", "converters.readers.safetensors", "convert"),
)
_ARTIFACTS = (
    Format("h5", "model.h5", "converters.writers.keras_h5", "keras", _KERAS),
    Format("weights", "model.weights.h5", "converters.writers.keras_weights", "keras", _KERAS),
    Format("keras", "model.keras", "converters.writers.keras_archive", "keras", _KERAS),
    Format("savedmodel", "saved_model", "converters.writers.savedmodel", "keras", _KERAS),
    Format("onnx", "model.onnx", "converters.writers.onnx", "convert", (*_KERAS, "tf2onnx")),
)
_DERIVED = (
    Format("fp16", "model_fp16.onnx", "converters.writers.onnx_half"),
    Format("int8", "model_int8.onnx", "converters.writers.onnx_int8"),
)
_SAVED = "converters.writers.sources"
_BACK = (
    Format("mat", ".mat", f"{_SAVED}.matconvnet"),
    Format("tf", "", f"{_SAVED}.netvlad_tf", "keras", ("tensorflow",)),
    Format("hloc", ".safetensors", f"{_SAVED}.hloc_safetensors", "convert", ("safetensors",)),
    Format(
        "pytorch-netvlad",
        ".safetensors",
        f"{_SAVED}.pytorch_netvlad_safetensors",
        "convert",
        ("safetensors",),
    ),
)

_ENDINGS = {
    ".mat": "matconvnet",
    ".h5": "keras_h5",
    ".keras": "keras_h5",
    ".safetensors": "hloc",  # or pytorch_netvlad: one reader, which tells them apart
}

#: What can be read, by name.
SOURCES = {format.name: format for format in _SOURCES}
#: What can be written, by name.
ARTIFACTS = {format.name: format for format in _ARTIFACTS}
#: What is made of `model.onnx`, by name.
DERIVED = {format.name: format for format in _DERIVED}
#: Formats of sources that can be written, by name.
BACK = {format.name: format for format in _BACK}


def read(path: Path) -> Checkpoint:
    """Read a source in the sandbox, with the reader that the name's ending calls for.

    A folder, and any other name, is a TF checkpoint's. Raises the reader's
    typed errors, and the sandbox's.
    """
    format = SOURCES[_ENDINGS.get(path.suffix.lower(), "tf_checkpoint")]
    with _installed(format):
        return sandbox.read(path, format.module)


def require(format: Format) -> None:
    """Raise `EnvironmentFailure` where a library that the format's module imports is missing."""
    for library in format.libraries:
        if find_spec(library) is None:
            raise _missing(format, library)


def load(format: Format) -> ModuleType:
    """Import a format's module. Raises `EnvironmentFailure` where a library is missing."""
    with _installed(format):
        return import_module(format.module)


@contextmanager
def _installed(format: Format) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "converters":
            raise
        raise _missing(format, error.name or "a library") from error


def _missing(format: Format, library: str) -> EnvironmentFailure:
    extra = f"[{format.extra}]" if format.extra else ""
    return EnvironmentFailure(
        f"{format.name} needs {library}, which is not installed",
        advice=f"pip install 'netvlad-keras{extra}'",
    )
