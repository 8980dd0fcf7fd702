"""The arrays in a file that another program wrote: `read`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

from converters import sandbox
from converters.errors import ConversionError, EnvironmentFailure, ReadError
from verify.capture import Array

__all__ = ["read"]

_ADVICE = "Save plain arrays of numbers, one for each layer, under the layers' names."


def read(path: Path) -> dict[str, Array]:
    """Name -> array, as it lies in the file; the name is `""` where the format has none.

    `.npy`, `.npz`, `.mat` (variables), `.pb` (one ONNX TensorProto). Raises `ReadError` for a file
    that is not what its ending says, `EnvironmentFailure` where a library is missing.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ReadError(path, f"is not a capture that is known: {', '.join(_READERS)}")
    if not path.is_file():
        raise ReadError(path, "does not exist")
    try:
        return reader(path)
    except ConversionError:
        raise
    except ModuleNotFoundError as error:
        library = (error.name or "a library").partition(".")[0]
        raise EnvironmentFailure(
            f"{path}: to read it, {library} is needed, which is not installed",
            advice="pip install 'netvlad-keras[convert]'",
        ) from error
    except Exception as error:  # on broken bytes the parsers raise whatever they meet
        reason = f"cannot be parsed: {type(error).__name__}: {error}"
        raise ReadError(path, reason, advice=_ADVICE) from error


def _npy(path: Path) -> dict[str, Array]:
    return {"": np.lib.format.open_memmap(path, mode="r")}


def _npz(path: Path) -> dict[str, Array]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if name != "facts"}


def _mat(path: Path) -> dict[str, Array]:
    return dict(sandbox.read(path, "converters.readers.mat_arrays").tensors)


def _pb(path: Path) -> dict[str, Array]:
    module = import_module("verify.runners.captured_tensor")
    name, values = module.read(path)
    return {name: values}


_READERS: Mapping[str, Callable[[Path], dict[str, Array]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".mat": _mat,
    ".pb": _pb,
}
