"""What can go wrong in a conversion, as a small tree of typed errors.

Every message says what is wrong, where, and what to do about it. The facts
stand as attributes, so that a caller need not parse the sentence. The command
line turns a `ConversionError` into exit code 1 (the input is refused), and an
`EnvironmentFailure` into 2 (the work could not be done here).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

__all__ = [
    "ConversionError",
    "EnvironmentFailure",
    "LayerError",
    "MappingError",
    "ReadError",
    "SourceError",
]

StrPath = str | PathLike[str]


class ConversionError(Exception):
    """The input is refused. `advice` says what its owner can do."""

    def __init__(self, message: str, *, advice: str = "") -> None:
        self.message = message
        self.advice = advice
        super().__init__(f"{message}\n  {advice}" if advice else message)


class ReadError(ConversionError):
    """A file cannot be read as what it claims to be."""

    def __init__(self, path: StrPath, reason: str, *, advice: str = "") -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}", advice=advice)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), (self.path, self.reason), {"advice": self.advice})


class LayerError(ConversionError):
    """Layers of a file that cannot be carried, each with its reason.

    `faults` maps a layer's name to what is wrong with it.
    """

    def __init__(self, path: StrPath, faults: Mapping[str, str], *, advice: str = "") -> None:
        self.path = str(path)
        self.faults = dict(faults)
        lines = "".join(f"\n  layer {name}: {reason}" for name, reason in self.faults.items())
        super().__init__(
            f"{self.path}: {_count(self.faults, 'layer')} refused{lines}", advice=advice
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), (self.path, self.faults), {"advice": self.advice})


class MappingError(ConversionError):
    """Tensors that do not fit the model, every one of them by name.

    `missing` are weights of the model that no tensor fills, `unexpected` are
    tensors that have no place in it, `misfits` maps a weight to the reason why
    the tensor that belongs there does not fit.
    """

    def __init__(
        self,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misfits: Mapping[str, str] | None = None,
        *,
        advice: str = "",
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misfits = dict(misfits or {})
        lines = [f"missing: {name}" for name in self.missing]
        lines += [f"unexpected: {name}" for name in self.unexpected]
        lines += [f"does not fit: {name}: {reason}" for name, reason in self.misfits.items()]
        head = f"{_count(lines, 'tensor')} of the source and the model do not match"
        super().__init__("\n  ".join([head, *lines]), advice=advice)

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (self.missing, self.unexpected, self.misfits)
        return _rebuild, (type(self), arguments, {"advice": self.advice})


class SourceError(ConversionError):
    """A named source is unknown, or what was fetched is not what it should be."""


class EnvironmentFailure(ConversionError):
    """Nothing is wrong with the input; this machine cannot do the work now.

    A missing optional dependency, a full disk, a folder without write
    permission, no network.
    """


def _count(items: Sequence[object] | Mapping[str, str], noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")


def _rebuild(
    kind: type[ConversionError], arguments: tuple[object, ...], keywords: dict[str, object]
) -> ConversionError:
    """Pickle support: errors cross from the child processes that writers run in."""
    return kind(*arguments, **keywords)  # type: ignore[arg-type]
