"""`Side`: one artifact's values, as what is to be paired with another's."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from verify.names.canonical import IMAGE
from verify.signature import Signature

__all__ = ["Side"]


@dataclass(slots=True)
class Side:
    """One artifact's values.

    order  their names, each behind what it reads; `reads` as `Layered` has it.
    seen   for each input: name -> signature, the image's among them.
    named  what no copy may stand for: the values that both artifacts know by one name.
    roots  value -> the value that it is a copy of, or itself.

    A copy holds the numbers of the one value that it reads, on every input, in whatever order:
    an Identity, a Transpose, a Reshape. Equal values that do not come from one another are not.
    """

    order: Sequence[str]
    reads: Mapping[str, tuple[str, ...]]
    seen: Sequence[Mapping[str, Signature]]
    named: Collection[str] = ()
    roots: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.roots = {IMAGE: IMAGE}
        for value in self.order:
            read = set(self.reads[value])
            only = read.pop() if len(read) == 1 else ""
            copy = only and value not in self.named and self._equal(value, only)
            self.roots[value] = self.roots[only] if copy else value

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that nothing reads."""
        read = {name for names in self.reads.values() for name in names}
        return tuple(value for value in self.order if value not in read)

    def sizes(self, value: str) -> tuple[tuple[int, ...], ...]:
        """Of its axes on every input."""
        return tuple(seen[value].sizes for seen in self.seen)

    def mute(self, value: str) -> bool:
        """It is one number on every input, so that whatever fits it says nothing."""
        return all(seen[value].constant for seen in self.seen)

    def parting(self, settled: Collection[str]) -> str:
        """The first value that is not among the settled roots, though all that it reads is, and
        behind which nothing is; `""` if there is none.

        Another artifact may compute the same by other steps: what only this one has is no
        difference while something behind it is settled, unless its name says what it should be.
        """
        behind: set[str] = set()
        for value in reversed(self.order):
            if value in behind or (self.roots[value] in settled and not self.mute(value)):
                behind.update(self.reads[value])
        for value in self.order:
            root = self.roots[value]
            excused = value in behind and value not in self.named
            if root in settled or root == IMAGE or excused or self.mute(value):
                continue
            if all(
                self.roots[read] in {IMAGE, *settled} or read in behind or self.mute(read)
                for read in self.reads[value]
            ):
                return value
        return ""

    def alone(self, settled: Collection[str]) -> tuple[str, ...]:
        """The values that are not among the settled roots, without copies and what says nothing."""
        return tuple(
            value
            for value in self.order
            if self.roots[value] == value and value not in settled and not self.mute(value)
        )

    def _equal(self, one: str, other: str) -> bool:
        return all(
            seen[one].digest == seen[other].digest
            and math.prod(seen[one].shape) == math.prod(seen[other].shape)
            for seen in self.seen
        )
