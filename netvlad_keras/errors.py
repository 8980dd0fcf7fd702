"""What `netvlad_keras` raises: an input or weights that do not fit. No Keras here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["ImageShapeError", "WeightsError"]


class ImageShapeError(ValueError):
    """An image batch of the wrong rank, size or number of channels."""

    def __init__(self, shape: tuple[Any, ...], minimum: int) -> None:
        self.shape = shape
        self.minimum = minimum
        super().__init__(
            f"expected images as [batch, height, width, 3], RGB from 0 to 255, of at least "
            f"{minimum}×{minimum} pixels; got shape {list(shape)}"
        )


class WeightsError(ValueError):
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
