"""Two artifacts that share no names, or only some: run both, pair what is the same, judge."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from verify.align import Matching, Pair, candidates, ends, matched
from verify.capture import Array
from verify.names.canonical import IMAGE, KNOWN
from verify.runners.layered import Images
from verify.side import Side
from verify.signature import Signature, distance, signature

__all__ = ["Alignment", "Outcome", "Shown", "aligned"]


class Shown(Protocol):
    """A `Runner` that shows all its values, and what each is computed from; see `Layered`."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Its values, each behind what it reads."""
        ...

    @property
    def takes(self) -> Images:
        """What images it takes."""
        ...

    @property
    def reads(self) -> Mapping[str, tuple[str, ...]]:
        """Value -> the values that it reads."""
        ...

    def run(self, images: Array) -> Iterator[tuple[str, Array]]:
        """Every value, in order."""
        ...


class Outcome(Enum):
    """What is known in the end."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two artifacts against each other.

    shapes    of every value on the first input, of the first artifact and of the second.
    outputs   each output's pair, as far as there is one.
    alone     the values of each that are paired with nothing, copies left out.
    at        where the one leaves the other: the first value of each that has no partner though
              what it reads has one, and behind which nothing has; `""` where they are the same.
    sentence  the verdict in words.
    """

    matching: Matching
    shapes: tuple[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]]
    outputs: tuple[Pair, ...]
    alone: tuple[tuple[str, ...], tuple[str, ...]]
    at: tuple[str, str]
    outcome: Outcome
    sentence: str


def aligned(
    first: Shown, second: Shown, images: Mapping[str, Array], rtol: float = 1e-4
) -> Alignment:
    """Run both on all `images` twice: for the signatures, then to compare what may be the same.

    Names that both know from the source win, and the output of one stands for the other's where
    each has one; all else is paired by value, within `rtol` of its largest value on every input.
    Raises `ConversionError` for images that one does not take, `LayerError` for a value that
    cannot be computed.
    """
    names = [name for name in first.layers if name in KNOWN and name in second.layers]
    one, other = (
        Side(runner.layers, runner.reads, [_seen(runner, each) for each in images.values()], names)
        for runner in (first, second)
    )
    fixed = [(name, name) for name in names]
    if len(one.ends) == len(other.ends) == 1 and not {*one.ends, *other.ends} & set(names):
        fixed.append((one.ends[0], other.ends[0]))
    chosen = candidates(one, other, fixed, rtol)
    distances = dict.fromkeys(chosen, 0.0)
    for each in images.values():
        for roots, far in _distances(first, second, each, chosen):
            distances[roots] = max(distances[roots], far)
    known = {end for pair in fixed for end in pair}
    fixed += [pair for pair in ends(one, other, distances, rtol) if not known & set(pair)]
    return _judged(one, other, matched(one, other, fixed, distances, rtol), rtol)


def _seen(runner: Shown, images: Array) -> dict[str, Signature]:
    return {
        IMAGE: signature(images),
        **{value: signature(array) for value, array in runner.run(images)},
    }


def _distances(
    first: Shown,
    second: Shown,
    images: Array,
    chosen: Mapping[tuple[str, str], tuple[str, str]],
) -> Iterator[tuple[tuple[str, str], float]]:
    """How far the chosen values are apart. Both run side by side, each value is held as long as
    the other's is awaited.
    """
    awaited: dict[str, list[tuple[tuple[str, str], str]]] = defaultdict(list)
    for roots, (value, partner) in chosen.items():
        awaited[value].append((roots, partner))
    uses = Counter(partner for _, partner in chosen.values())
    held: dict[str, Array] = {}
    stream = second.run(images)
    for value, array in first.run(images):
        for roots, partner in awaited.get(value, ()):
            while partner not in held:
                name, found = next(stream)
                if uses[name]:
                    held[name] = found
            yield roots, distance(array, held[partner])
            uses[partner] -= 1
            if not uses[partner]:
                del held[partner]


def _judged(first: Side, second: Side, matching: Matching, rtol: float) -> Alignment:
    good = [pair for pair in (*matching.fixed, *matching.found) if pair.agreement <= rtol]
    doubtful = matching.ambiguous
    settled = (
        {first.roots[p.first] for p in good} | {v for each in doubtful for v in each.first},
        {second.roots[p.second] for p in good} | {v for each in doubtful for v in each.second},
    )
    last = {first.roots[end] for end in first.ends}, {second.roots[end] for end in second.ends}
    outputs = [
        pair
        for pair in (*matching.fixed, *matching.found)
        if first.roots[pair.first] in last[0] and second.roots[pair.second] in last[1]
    ]
    outcome, sentence = _verdict(matching, last, outputs, rtol)
    at = ("", "")
    if outcome is Outcome.DIFFERENT:
        at = first.parting(settled[0]), second.parting(settled[1])
        sentence = _where(*at)
    return Alignment(
        matching,
        (_shapes(first), _shapes(second)),
        tuple(outputs),
        (first.alone(settled[0]), second.alone(settled[1])),
        at,
        outcome,
        sentence,
    )


def _verdict(
    matching: Matching,
    last: tuple[Collection[str], Collection[str]],
    outputs: Collection[Pair],
    rtol: float,
) -> tuple[Outcome, str]:
    for each in matching.ambiguous:
        if set(each.first) & set(last[0]) or set(each.second) & set(last[1]):
            sentence = f"{_list(each.first)} and {_list(each.second)} fit in more than one way"
            return Outcome.UNKNOWN, f"the outputs cannot be told apart: {sentence}"
    good = [pair for pair in (*matching.fixed, *matching.found) if pair.agreement <= rtol]
    agree = [pair for pair in outputs if pair.agreement <= rtol]
    if len(agree) == len(last[0]) == len(last[1]) and all(p in good for p in matching.fixed):
        words = f"the same within {rtol:g}: {len(agree)} output{'s' * (len(agree) > 1)} and "
        words += f"{len(good) - len(agree)} values before"
        refused = sum(len(each.first) for each in matching.ambiguous)
        words += f"; {refused} that fit in more than one way are not paired" if refused else ""
        return Outcome.SAME, words
    if not good and not matching.ambiguous and all(math.isinf(p.agreement) for p in outputs):
        return Outcome.UNKNOWN, "no value of the first is found in the second"
    return Outcome.DIFFERENT, "different"


def _where(first: str, second: str) -> str:
    if first and second and first != second:
        return f"different: first at {first}, where the second artifact has {second}"
    if first == second:
        return f"different: first at {first or 'an output'}"
    which, value = ("first", first) if first else ("second", second)
    return f"different: the {which} artifact goes on, with {value}"


def _shapes(side: Side) -> dict[str, tuple[int, ...]]:
    return {value: side.seen[0][value].shape for value in side.order}


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
