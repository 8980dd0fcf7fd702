"""Where things stand in the figures of the HTML page: logarithmic axes, lines, markers, steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["SHAPES", "Axis", "Line", "line", "marker", "steps"]

#: Markers around a point, as relative SVG paths: an artifact is not known by colour alone.
SHAPES = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",  # circle
    "m-2.7-2.7h5.4v5.4h-5.4z",  # square
    "m0-3.6l3.5 6.2h-7z",  # triangle
    "m0-3.9l3.9 3.9-3.9 3.9-3.9-3.9z",  # diamond
    "m0 3.6l3.5-6.2h-7z",  # triangle, upside down
    "m-1.1-3.4h2.2v2.3h2.3v2.2h-2.3v2.3h-2.2v-2.3h-2.3v-2.2h2.3z",  # plus
    "m-3-3l1.5-.8 1.5 2 1.5-2 1.5.8-1.7 3 1.7 3-1.5.8-1.5-2-1.5 2-1.5-.8 1.7-3z",  # cross
)

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from 10^low at pixel `start` to 10^high at pixel `end`.

    `zero` is the pixel of what has no logarithm but is exact, off the scale.
    """

    low: int
    high: int
    start: float
    end: float
    zero: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, zero: float) -> Axis:
        """Whole decades around the values, at least three, within 10^-12 and 10^9."""
        logs = [math.log10(value) for value in values if 0 < value < math.inf]
        low = max(-12, math.floor(min(logs, default=-8.0)))
        high = min(9, math.ceil(max(logs, default=-5.0)))
        low = min(low, 6)
        return cls(low, max(high, low + 3), start, end, zero)

    def __call__(self, value: float) -> float:
        """The value's pixel; what lies outside stands at the edge, NaN with infinity."""
        if value == 0:
            return self.zero
        place = self.high if math.isnan(value) else math.log10(min(abs(value), 10.0**self.high))
        share = max(0.0, (place - self.low) / (self.high - self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Pixel and label of each decade, or of every second where there are many."""
        step = 1 if self.high - self.low <= 9 else 2
        return [(self(10.0**n), power(n)) for n in range(self.low, self.high + 1, step)]


def power(exponent: int) -> str:
    """`10⁻⁷`; 1 and 10 as such."""
    return (
        str(10**exponent) if exponent in (0, 1) else "10" + str(exponent).translate(_SUPERSCRIPTS)
    )


@dataclass(frozen=True, slots=True)
class Line:
    """Paths of one artifact: the line, a marker for each value, a ring around each bad one."""

    path: str
    markers: str
    rings: str


def line(points: Sequence[tuple[float, float] | None], bad: Sequence[bool], shape: int) -> Line:
    """Through the points in order, with gaps where there is none."""
    strokes, pen = [], "M"
    for point in points:
        if point:
            strokes.append(f"{pen}{_at(point)}")
        pen = "L" if point else "M"
    there = [(point, wrong) for point, wrong in zip(points, bad, strict=True) if point]
    return Line(
        "".join(strokes),
        "".join(marker(point, shape) for point, _ in there),
        "".join(
            f"M{_at(point)}m-6.5 0a6.5 6.5 0 1 0 13 0a6.5 6.5 0 1 0-13 0z"
            for point, w in there
            if w
        ),
    )


def marker(point: tuple[float, float], shape: int) -> str:
    """One marker as a path."""
    return f"M{_at(point)}{SHAPES[shape % len(SHAPES)]}"


def steps(counts: Sequence[int], width: float, height: float) -> str:
    """A histogram's outline, closed; heights by the logarithm, so that a single value shows."""
    top = math.log1p(max(counts, default=0))
    if not top:
        return ""
    bin_width = round(width / len(counts), 2)
    path, level = f"M0 {height:g}", 0.0
    for count in counts:
        new = round(height * math.log1p(count) / top)
        path += (f"v{level - new:g}" if new != level else "") + f"h{bin_width:g}"
        level = new
    return f"{path}v{level:g}z"


def _at(point: tuple[float, float]) -> str:
    return f"{point[0]:g} {point[1]:g}"
