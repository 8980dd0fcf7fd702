"""`report/inputs.npz`: what artifacts were compared on, kept so that a run can be repeated.

An input of a net of one input stands under its own name; of a net of several, under
`<name>:<the net's input>`.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from converters.errors import ConversionError, EnvironmentFailure, ReadError
from verify.capture import Array, Images

__all__ = ["FILE", "grouped", "read", "write"]

FILE = "inputs.npz"


def write(folder: Path, inputs: Mapping[str, Images]) -> None:
    """Keep `inputs` as `FILE` in `folder`; it is replaced in one step.

    Raises `EnvironmentFailure` where the disk refuses.
    """
    temporary: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=folder)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            # Not `np.savez`, which takes names as keywords: an input may be called `file`.
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for key, values in _flat(inputs).items():
                    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(folder / FILE)
    except OSError as error:
        raise EnvironmentFailure(
            f"{folder / FILE}: the inputs cannot be kept: {error.strerror or error}",
            advice="make room, or name a folder that may be written to",
        ) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def _flat(inputs: Mapping[str, Images]) -> dict[str, Array]:
    flat: dict[str, Array] = {}
    for name, images in inputs.items():
        each = {"": images} if isinstance(images, np.ndarray) else images
        # A file name that is not UTF-8 reaches us with lone surrogates, which no archive can name.
        name = name.encode("utf-8", "backslashreplace").decode()
        flat |= {f"{name}:{entry}" if entry else name: values for entry, values in each.items()}
    return flat


def read(path: Path) -> dict[str, Array]:
    """Key -> array, in the file's order. Raises `ReadError` for a file that holds no arrays."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ReadError(path, f"not a file of inputs: {error}") from error
    if strange := [key for key, a in found.items() if a.ndim != 4 or a.dtype.kind not in "uif"]:
        raise ReadError(path, f"{', '.join(strange)}: not images N×H×W×C")
    if not found:
        raise ReadError(path, "holds no inputs")
    return found


def grouped(kept: Mapping[str, Array], entries: Sequence[str]) -> dict[str, Images]:
    """By input's name, for a net whose inputs are called `entries`.

    Raises `ConversionError` where the inputs are another net's.
    """
    if len(entries) == 1:
        return dict(kept)
    names = dict.fromkeys(key.rpartition(":")[0] for key in kept)
    wanted = {f"{name}:{entry}" for name in names for entry in entries}
    if wanted != kept.keys():
        raise ConversionError(
            f"the inputs {', '.join(sorted(kept.keys() ^ wanted))} are missing or the net has none "
            "such",
            advice=f"The net reads {', '.join(entries)}.",
        )
    return {name: {entry: kept[f"{name}:{entry}"] for entry in entries} for name in names}
