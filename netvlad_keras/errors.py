"""What `netvlad_keras` raises: inputs, weights, files and data that do not fit. No Keras here."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

__all__ = [
    "CropError",
    "DatasetError",
    "DescriptorsError",
    "EnvironmentFailure",
    "ImageShapeError",
    "InputError",
    "InputShapeError",
    "ModelFileError",
    "NetError",
    "NetVLADError",
    "RetrievalError",
    "TrainingError",
    "WeightsError",
]


class NetVLADError(ValueError):
    """Everything that this package refuses. It travels between processes (it can be pickled)."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, dict(vars(self)))


def _restored(
    kind: type[NetVLADError], said: tuple[object, ...], facts: dict[str, object]
) -> NetVLADError:
    """The error again; its `__init__` takes other arguments than the message."""
    error = kind.__new__(kind, *said)
    vars(error).update(facts)
    return error


class NetError(NetVLADError):
    """A net that is none: every fault, each with its layer."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class InputError(NetVLADError):
    """Inputs that a net does not read, or that are missing, or that do not go together."""


class InputShapeError(InputError):
    """What is given for a net's input has the wrong rank, size or number of channels."""

    def __init__(
        self, name: str, shape: tuple[Any, ...], channels: int, minimum: tuple[int, int]
    ) -> None:
        self.name = name
        self.shape = shape
        self.channels = channels
        self.minimum = minimum
        super().__init__(
            f"expected {name} as [batch, height, width, {channels}] of at least "
            f"{minimum[0]}×{minimum[1]}; got shape {list(shape)}"
        )


class ImageShapeError(NetVLADError):
    """An image batch of the wrong rank, size or number of channels."""

    def __init__(self, shape: tuple[Any, ...], minimum: int) -> None:
        self.shape = shape
        self.minimum = minimum
        super().__init__(
            f"expected images as [batch, height, width, 3], RGB from 0 to 255, of at least "
            f"{minimum}×{minimum} pixels; got shape {list(shape)}"
        )


class WeightsError(NetVLADError):
    """Weights that do not fit: every missing, unexpected and misshapen entry.

    Raised before any variable changes.
    """

    def __init__(
        self,
        reason: str,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Sequence[str] = (),
    ) -> None:
        self.reason = reason
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshapen = tuple(misshapen)
        lines = [f"missing: {name}" for name in self.missing]
        lines += [f"unexpected: {name}" for name in self.unexpected]
        lines += [f"wrong shape: {text}" for text in self.misshapen]
        super().__init__("\n  ".join([reason, *lines]))


class RetrievalError(NetVLADError):
    """Describing, searching or evaluating is refused. `advice` says what the caller can do."""

    def __init__(self, message: str, *, advice: str = "") -> None:
        self.message = message
        self.advice = advice
        super().__init__(f"{message}\n  {advice}" if advice else message)


class _FileError(RetrievalError):
    def __init__(self, path: str | PathLike[str], reason: str, *, advice: str = "") -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}", advice=advice)


class ModelFileError(_FileError):
    """A file that is not a model from images to descriptors."""


class DatasetError(_FileError):
    """A dataset that is not in one of the layouts that are read."""


class DescriptorsError(_FileError):
    """A file or folder of descriptors that is damaged, or of another model."""


class CropError(RetrievalError):
    """Descriptors that cannot be cut to `dimension` numbers."""

    def __init__(self, dimension: int, reason: str) -> None:
        self.dimension = dimension
        self.reason = reason
        super().__init__(f"descriptors cannot be cut to {dimension} dimensions: {reason}")


class EnvironmentFailure(RetrievalError):
    """Nothing is wrong with the input; this machine cannot do the work now.

    A library that is not installed, a full disk, another run at the same place.
    """


class TrainingError(RetrievalError):
    """Training that would come to nothing: no clusters, no queries, another run's checkpoint."""
