"""What runs in a writer's process: the model is built, then written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from converters import formats, handoff, plugins
from converters.writers.options import WriteOptions

__all__ = ["check_onnx", "write"]

#: What the system says where a file cannot be written.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
#: A disk with less room than this is full.
_FULL = 1 << 16


def write(
    paths: Mapping[str, Path], weights: Path, options: WriteOptions, files: Sequence[Path] = ()
) -> Iterator[str]:
    """Write formats (name -> path) of the net whose weights `handoff.save` left in a folder.

    `files` are plugins. Yields what is about to be done, in words. Raises
    `OSError` where the disk refuses, whatever the library makes of that.
    """
    for file in files:
        for kind, factory in plugins.load(file).keras.items():
            import_module("netvlad_keras.graph").register(kind, factory)
    writers = {name: formats.load(formats.ARTIFACTS[name]) for name in paths}
    model = import_module("converters.build").build(*handoff.load(weights))
    for name, path in paths.items():
        yield f"write {path.name}"
        with _disk(path):
            writers[name].write(model, path, options)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """HDF5 and TensorFlow have errors of their own for a disk that is full."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if number := _refusal(error, path):
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _refusal(error: BaseException | None, path: Path) -> int:
    """The system's error behind a library's, 0 if there is none."""
    while error is not None:
        for number in _REFUSALS:
            if os.strerror(number) in str(error) or getattr(error, "errno", None) == number:
                return number
        error = error.__cause__ or error.__context__
    return errno.ENOSPC if shutil.disk_usage(path.parent).free < _FULL else 0


def check_onnx(path: Path) -> None:
    """The full check needs twice the file in memory, but no TensorFlow."""
    import_module("converters.writers.onnx_check").check(path)
