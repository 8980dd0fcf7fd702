"""Finds the values of two runs that are the same, where no names say so.

Values are held beside one another by their sizes and their numbers on several inputs. A pair
counts only where nothing else fits: between two values that both fit nothing is guessed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from verify.names.canonical import IMAGE
from verify.side import Side
from verify.signature import estimate

__all__ = ["Ambiguity", "Matching", "Pair", "candidates", "ends", "matched"]

#: An estimate may be this many times the largest difference, which it stands for.
_GENEROUS = 16.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of each that are the same, or that names or their roles say are.

    agreement  max |d| over the first's largest value, the largest of all inputs.
    runner_up  how far the nearest other value of the same sizes is, likewise, or where that was
               out of the question RMS of the difference over the largest value, estimated;
               infinite where there is none.
    by         what paired them: `name`, `output` (the only one of both), or `value`.
    """

    first: str
    second: str
    agreement: float
    runner_up: float = math.inf
    by: str = "value"

    @property
    def ratio(self) -> float:
        """The runner-up's distance over the pair's own: how sure it is."""
        return self.runner_up / self.agreement if self.agreement else math.inf


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """Values that fit one another in more than one way."""

    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """What `matched` found, in the first's order.

    fixed      pairs by name or role, which may disagree.
    found      pairs by value.
    ambiguous  what was not paired, since more than one thing fits.
    """

    fixed: tuple[Pair, ...]
    found: tuple[Pair, ...]
    ambiguous: tuple[Ambiguity, ...]


def candidates(
    first: Side, second: Side, fixed: Collection[tuple[str, str]], rtol: float
) -> dict[tuple[str, str], tuple[str, str]]:
    """The roots of each that may be the same -> the values to compare for it.

    Of `fixed`, pairs of values, all are there whose sizes are the same.
    """
    found: dict[tuple[str, str], tuple[str, str]] = {}
    best: dict[tuple[str, str], float] = {}
    for one, other, guess in _estimates(first, second):
        roots = first.roots[one], second.roots[other]
        if guess <= _GENEROUS * rtol and guess < best.get(roots, math.inf):
            found[roots], best[roots] = (one, other), guess
    same = {
        (first.roots[one], second.roots[other]): (one, other)
        for one, other in fixed
        if first.sizes(one) == second.sizes(other)
    }
    return {**found, **same}


def ends(
    first: Side, second: Side, distances: Mapping[tuple[str, str], float], rtol: float
) -> list[tuple[str, str]]:
    """The outputs of both that fit one another and no other output."""
    last = [{side.roots[end]: end for end in side.ends} for side in (first, second)]
    fits = [
        (one, other)
        for (one, other), far in distances.items()
        if far <= rtol and one in last[0] and other in last[1]
    ]
    return [
        (last[0][ones[0]], last[1][others[0]])
        for ones, others in _components(fits)
        if len(ones) == len(others) == 1
    ]


def matched(
    first: Side,
    second: Side,
    fixed: Collection[tuple[str, str]],
    distances: Mapping[tuple[str, str], float],
    rtol: float,
) -> Matching:
    """Pair what fits alone; what `fixed` pairs is not for others, but for outputs that differ.

    `distances`: roots -> max |d| relative, see `candidates`.
    """
    nearest = _nearest(first, second, distances)
    roots = [(first.roots[one], second.roots[other]) for one, other in fixed]
    certain = tuple(
        Pair(
            one,
            other,
            distances.get(pair, math.inf),
            nearest(pair),
            "name" if one in first.named else "output",
        )
        for pair, (one, other) in zip(roots, fixed, strict=True)
    )
    held = [
        pair
        for pair, row in zip(roots, certain, strict=True)
        if row.by == "name" or row.agreement <= rtol
    ]
    taken = {one for one, _ in held}, {other for _, other in held}
    fits = [
        (one, other)
        for (one, other), far in distances.items()
        if far <= rtol and one not in taken[0] and other not in taken[1]
    ]
    found: list[Pair] = []
    ambiguous: list[Ambiguity] = []
    for ones, others in _components(fits):
        if len(ones) == len(others) == 1:
            pair = ones[0], others[0]
            found.append(Pair(*pair, distances[pair], nearest(pair)))
        else:
            ambiguous.append(Ambiguity(ones, others))
    place = {value: number for number, value in enumerate(first.order)}
    return Matching(
        certain,
        tuple(sorted(found, key=lambda pair: place[pair.first])),
        tuple(sorted(ambiguous, key=lambda each: min(place[value] for value in each.first))),
    )


def _estimates(first: Side, second: Side) -> Iterator[tuple[str, str, float]]:
    """Every two values of the same sizes that say something, and how far they are apart."""
    alike: dict[tuple[tuple[int, ...], ...], list[str]] = defaultdict(list)
    for value in second.order:
        if second.roots[value] != IMAGE and not second.mute(value):
            alike[second.sizes(value)].append(value)
    for one in first.order:
        if first.roots[one] == IMAGE or first.mute(one):
            continue
        for other in alike[first.sizes(one)]:
            both = zip(first.seen, second.seen, strict=True)
            yield one, other, max(estimate(a[one], b[other]) for a, b in both)


def _nearest(
    first: Side, second: Side, distances: Mapping[tuple[str, str], float]
) -> Callable[[tuple[str, str]], float]:
    """How far each pair's nearest rival is, on either side."""
    near: dict[tuple[str, str], float] = {}
    for one, other, guess in _estimates(first, second):
        roots = first.roots[one], second.roots[other]
        near[roots] = min(guess, near.get(roots, math.inf))
    rows: dict[str, list[tuple[float, tuple[str, str]]]] = defaultdict(list)
    columns: dict[str, list[tuple[float, tuple[str, str]]]] = defaultdict(list)
    for roots, guess in {**near, **distances}.items():
        rows[roots[0]].append((guess, roots))
        columns[roots[1]].append((guess, roots))

    def rival(pair: tuple[str, str]) -> float:
        others = (*rows[pair[0]], *columns[pair[1]])
        return min((guess for guess, roots in others if roots != pair), default=math.inf)

    return rival


def _components(
    pairs: Sequence[tuple[str, str]],
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The values of both that hang together by `pairs`."""
    found: list[tuple[dict[str, None], dict[str, None]]] = []
    for one, other in pairs:
        touched = [each for each in found if one in each[0] or other in each[1]]
        merged: tuple[dict[str, None], dict[str, None]] = ({one: None}, {other: None})
        for each in reversed(touched):
            merged = {**each[0], **merged[0]}, {**each[1], **merged[1]}
        found = [each for each in found if each not in touched] + [merged]
    return [(tuple(ones), tuple(others)) for ones, others in found]
