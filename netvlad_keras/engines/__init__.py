"""Models that describe images, opened from a file of any format: `open_model(path)`.

Each format has a module here with `open(path) -> Engine`, which imports what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import EnvironmentFailure, ModelFileError

__all__ = ["Contract", "Engine", "open_model"]

Array = NDArray[Any]

#: Suffix -> the module that opens it, and the extra that brings what that needs.
_FORMATS = {
    ".onnx": ("onnx", ""),
    ".keras": ("keras", "keras"),
    ".h5": ("keras", "keras"),
    "folder": ("savedmodel", "keras"),
}


@dataclass(frozen=True, slots=True)
class Contract:
    """What a model takes and gives.

    layout     axes of its input, `NHWC` or `NCHW`.
    dtype      of its input: `float32`, `float16` or `uint8`; values are 0 to 255.
    batch      images that it takes at a time, None: any number.
    size       (height, width) in pixels that it takes, None: any.
    minimum    smallest height and width in pixels, as far as the file says it.
    dimension  length of a descriptor, None where the file leaves it open.
    whitened   whether descriptors may be cut; None where the file does not say.
    """

    layout: str = "NHWC"
    dtype: str = "float32"
    batch: int | None = None
    size: tuple[int | None, int | None] = (None, None)
    minimum: int = 1
    dimension: int | None = None
    whitened: bool | None = None

    def misfit(self, height: int, width: int) -> str:
        """Why an image of this size does not go in; `""` where it does."""
        if min(height, width) < self.minimum:
            least = f"{self.minimum}×{self.minimum}"
            return f"{height}×{width} pixels; the model takes images from {least}"
        for length, fixed in zip((height, width), self.size, strict=True):
            if fixed not in (None, length):
                wanted = "×".join("any" if side is None else str(side) for side in self.size)
                return f"{height}×{width} pixels; the model takes {wanted} alone"
        return ""


@dataclass(frozen=True, slots=True)
class Engine:
    """An opened model. `run` takes a batch as the contract has it, and gives N×D.

    alone  images are best given one by one, from several threads: each is computed by one, so
           that no bit of its descriptor depends on the others or on the number of processors.
    """

    contract: Contract
    run: Callable[[Array], Array]
    alone: bool = False

    def describe(self, images: Array) -> NDArray[np.float32]:
        """Descriptors, float32 [N, D], of images uint8 [N, height, width, 3], RGB, 0 to 255.

        A model of a fixed batch size is fed as often as it takes; what is missing in the last
        batch is filled up and left out of the result.
        """
        batch = self.contract.batch or (1 if self.alone else len(images))
        rows = [self._batch(images[at : at + batch], batch) for at in range(0, len(images), batch)]
        return np.concatenate(rows)

    def _batch(self, images: Array, batch: int) -> NDArray[np.float32]:
        fill = np.repeat(images[-1:], batch - len(images), axis=0)
        lying = np.concatenate([images, fill]) if len(fill) else images
        if self.contract.layout == "NCHW":
            lying = lying.transpose(0, 3, 1, 2)
        found = self.run(np.ascontiguousarray(lying, dtype=self.contract.dtype))
        if found.ndim != 2 or len(found) != batch:
            raise ValueError(f"gives {found.shape} for {batch} images, not a vector for each")
        return np.asarray(found[: len(images)], np.float32)


def open_model(path: str | PathLike[str]) -> Engine:
    """Open a model from images to descriptors: `.onnx`, `.keras`, `.h5`, a SavedModel's folder.

    ONNX needs ONNX Runtime alone, the others Keras or TensorFlow. A SavedModel is a program:
    open only those that you trust. Raises `ModelFileError` for a file that is no such model,
    `EnvironmentFailure` where a library is missing.
    """
    path = Path(path)
    if not path.exists():
        raise ModelFileError(path, "there is no such file")
    suffix = "folder" if (path / "saved_model.pb").is_file() else path.suffix.lower()
    if suffix not in _FORMATS or (path.is_dir() and suffix != "folder"):
        raise ModelFileError(path, "a model is .onnx, .keras, .h5 or the folder of a SavedModel")
    name, extra = _FORMATS[suffix]
    try:
        module = import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        wanted = f"netvlad-keras[{extra}]" if extra else "netvlad-keras"
        raise EnvironmentFailure(
            f"{path}: needs {error.name}, which is not installed",
            advice=f"pip install '{wanted}', or use the .onnx file of the same net.",
        ) from error
    engine: Engine = module.open(path)
    return engine
