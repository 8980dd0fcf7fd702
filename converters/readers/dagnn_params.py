"""The parameters of a DagNN, which layers share by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from converters.checkpoint import Array
from converters.readers.mat_value import Struct, Value
from converters.readers.weights import Axes, tensor

__all__ = ["Parameters"]


class Parameters:
    """`net.params`, read as layers ask for them, each of them once.

    read    name -> array, of all that were asked for.
    unread  the names that nobody asked for.
    """

    def __init__(self, params: Value | None) -> None:
        entries = params if isinstance(params, list) else [params]
        structs: list[Struct] = [entry for entry in entries if isinstance(entry, dict)]
        named = [
            (str(s["name"]), s.get("value")) for s in structs if isinstance(s.get("name"), str)
        ]
        self._values = dict(named)
        self._counts = Counter(name for name, _ in named)
        self._asked: set[str] = set()
        self.read: dict[str, Array] = {}

    @property
    def unread(self) -> list[str]:
        return [name for name in self._values if name not in self._asked]

    def take(
        self, names: Sequence[str], axes: Sequence[Axes], optional: Sequence[bool]
    ) -> tuple[str, ...]:
        """The names of those that are there; an empty one that is optional is not.

        Raises ValueError with all that are missing, or with the one that does not fit.
        """
        if missing := [name for name in names if name not in self._values]:
            raise ValueError(f"its parameters {', '.join(missing)} are not in the net")
        self._asked.update(names)
        return tuple(
            name
            for name, count, may_lack in zip(names, axes, optional, strict=True)
            if self._one(name, count, may_lack)
        )

    def _one(self, name: str, axes: Axes, optional: bool) -> bool:
        """Whether there is a parameter of that name with so many axes."""
        if self._counts[name] > 1:
            raise ValueError(f"there are {self._counts[name]} parameters {name}")
        known = self.read.get(name)
        if known is not None and axes in (None, known.ndim):
            return True
        value = self._values[name]
        try:
            array = tensor([] if value is None else value, axes, optional=optional)
        except ValueError as error:
            raise ValueError(f"parameter {name} {error}") from error
        if known is not None:
            raise ValueError(f"parameter {name} is read with {known.ndim} axes by another layer")
        if array is None:
            return False
        self.read[name] = array
        return True
