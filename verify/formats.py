"""What can be verified, as a constant table: how an artifact is known, and what runs it.

The modules are reached by name, so that naming a format costs nothing and needs none of its
libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converters.errors import ConversionError, EnvironmentFailure, ReadError
from verify.capture import Runner
from verify.names.given import Names
from verify.runners import tf_bundle
from verify.unnamed import Shown

__all__ = ["FORMATS", "Format", "find", "open_all", "open_artifact"]


@dataclass(frozen=True, slots=True)
class Format:
    """One format of artifact.

    kind      as the `Runner` that opens it says, see there.
    module    whose `open` takes the path.
    endings   of the file's name.
    inside    a file that a folder of this format holds.
    beside    the ending of a file that a TensorFlow checkpoint's prefix has.
    """

    kind: str
    module: str
    endings: tuple[str, ...] = ()
    inside: str = ""
    beside: str = ""


#: The first that fits counts.
FORMATS = (
    Format("savedmodel", "verify.runners.savedmodel", inside="saved_model.pb"),
    Format("weights", "verify.runners.keras_weights", endings=(".weights.h5",)),
    Format("keras", "verify.runners.keras_model", endings=(".keras",)),
    Format("h5", "verify.runners.keras_model", endings=(".h5", ".hdf5")),
    Format("onnx", "verify.runners.onnx", endings=(".onnx",)),
    Format("mat", "verify.runners.matconvnet", endings=(".mat",)),
    Format("safetensors", "verify.runners.torch_weights", endings=(".safetensors",)),
    Format("tf_graph", "verify.runners.tf_graph", endings=(".pb",), beside=".meta"),
    Format("tf_variables", "verify.runners.tf_variables", beside=".index"),
)


def find(path: Path) -> Format:
    """The format of an artifact, told by its name and by what lies in it or beside it.

    A TensorFlow checkpoint is given by its prefix, one of its files, or its folder. Raises
    `ReadError` where there is nothing, or nothing that is known.
    """
    for format in FORMATS:
        if path.name.lower().endswith(format.endings) and format.endings and path.is_file():
            return format
        if format.inside and (path / format.inside).is_file():
            return format
    prefix = tf_bundle.prefix(path)
    if prefix is None:
        listing = ", ".join(e for f in FORMATS for e in (*f.endings, f.inside) if e)
        reason = f"is not an artifact that is known: {listing}, or a TensorFlow checkpoint"
        if not path.exists():
            reason = "does not exist, nor does a TensorFlow checkpoint of that name"
        raise ReadError(path, reason)
    return next(f for f in FORMATS if f.beside and Path(f"{prefix}{f.beside}").is_file())


def open_artifact(path: Path, names: Names = MappingProxyType({})) -> Runner:
    """Open an artifact with the module of its format.

    `names` (canonical name -> name there) is for somebody else's file. Raises the module's typed
    errors, and `EnvironmentFailure` where a library that it needs is missing.
    """
    runner: Runner = _module(path).open(path, names)
    return runner


def open_all(path: Path) -> Shown:
    """Open an artifact so that it shows all its values, by their own names where no layer's is
    known. Raises the same, and `ConversionError` for a file of weights, which has none.
    """
    module = _module(path)
    runner: Shown = getattr(module, "open_all", module.open)(path)
    if not runner.layers:
        raise ConversionError(f"{path}: holds weights alone, there is nothing to run")
    return runner


def _module(path: Path) -> Any:
    format = find(path)
    try:
        return import_module(format.module)
    except ModuleNotFoundError as error:
        library = (error.name or "a library").partition(".")[0]
        if library in ("verify", "converters"):
            raise
        raise EnvironmentFailure(
            f"{path}: to run it, {library} is needed, which is not installed",
            advice="pip install 'netvlad-keras[keras]'",
        ) from error
