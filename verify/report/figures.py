"""The three figures of the HTML page, for one input: error against depth, own against inherited
error, histograms. Geometry and words; the template makes SVG of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from verify.report.drawing import Axis, Line, line, marker, steps
from verify.report.findings import Artifact, State, share, state
from verify.report.words import brief, number, plain, roundings
from verify.result import LayerResult, Measure

__all__ = ["Cell", "Depth", "Dot", "Scatter", "depth", "histograms", "scatter"]

#: Pixels: of one layer at least, of all at least, of a bar at most; of the margins, of the plot.
STEP, WIDE, BAR = 26, 900, 60
LEFT, TOP, TALL = 50, 24, 260
#: From the lowest decade down to the line of what is exactly zero, and from there to the names.
ZERO, NAMES = 24, 14
#: Width and height of a histogram.
CELL = (160, 44)

_WORDS: Mapping[State, str] = {
    State.SAME: "",
    State.ALLOWED: " ≈ allowed",
    State.MADE: " ✗ made here",
    State.CARRIED: " ↓ carried",
    State.DIFFERENT: " ✗ different",
}

Results = Sequence[Mapping[str, LayerResult]]


@dataclass(frozen=True, slots=True)
class Depth:
    """Error against depth. Bars, names and hits have one entry for each layer.

    step   from one layer to the next.
    bars   y of the rounding floor's top, None where there is none.
    lines  one for each artifact; `lost` marks, at the top, where nothing could be compared.
    hits   what is said of the layer where the pointer is.
    """

    width: float
    height: float
    axis: Axis
    step: float
    names: tuple[tuple[float, str, bool], ...]
    bars: tuple[float | None, ...]
    lines: tuple[Line, ...]
    lost: tuple[str, ...]
    hits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """One layer of one artifact in the scatter."""

    artifact: int
    path: str
    bad: bool
    words: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Own (x) against inherited error (y), each as a share of its limit, which is at 1."""

    x: Axis
    y: Axis
    dots: tuple[Dot, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One layer's histograms, an outline for each artifact that has one."""

    layer: str
    marks: str
    outlines: tuple[tuple[int, str, bool], ...]


def shown(result: LayerResult | None) -> Measure | None:
    """The whole net's error; the layer's own where there is no other."""
    return None if result is None else result.inherited or result.own


def depth(
    layers: Sequence[str],
    every: Sequence[Artifact],
    results: Results,
    floor: Mapping[str, float],
) -> Depth:
    """`results` has a mapping of layers for each of `every`."""
    errors = [[shown(found.get(layer)) for layer in layers] for found in results]
    values = [measure.rms_rel for row in errors for measure in row if measure]
    axis = Axis.over([*values, *floor.values()], TOP + TALL, TOP, TOP + TALL + ZERO)
    step = max(STEP, WIDE // max(1, len(layers)))
    xs = [LEFT + step * (n + 0.5) for n in range(len(layers))]
    lines, lost = [], []
    for shape, (found, row) in enumerate(zip(results, errors, strict=True)):
        points = [
            (x, axis(each.rms_rel)) if each else None for x, each in zip(xs, row, strict=True)
        ]
        states = [state(found.get(layer)) for layer in layers]
        lines.append(line(points, [each.bad for each in states], shape))
        gone = [x for x, each in zip(xs, states, strict=True) if each is State.IMPOSSIBLE]
        lost.append("".join(f"M{x - 4:g} {TOP - 14}l8 8m0-8l-8 8" for x in gone))
    bad = [any(state(found.get(layer)).bad for found in results) for layer in layers]
    return Depth(
        width=LEFT + step * len(layers) + 8,
        height=TOP + TALL + ZERO + NAMES + 6.0 * max(map(len, layers), default=0),
        axis=axis,
        step=step,
        names=tuple(zip(xs, layers, bad, strict=True)),
        bars=tuple(axis(floor[n]) if floor.get(n) else None for n in layers),
        lines=tuple(lines),
        lost=tuple(lost),
        hits=tuple(_hit(layer, every, results, floor) for layer in layers),
    )


def _hit(
    layer: str, every: Sequence[Artifact], results: Results, floor: Mapping[str, float]
) -> str:
    lines = [plain(layer)]
    if layer in floor:
        lines.append(f"{number(floor[layer])}  rounding floor")
    for artifact, found in zip(every, results, strict=True):
        if result := found.get(layer):
            lines.append(
                f"{_value(result)}  {plain(artifact.label)}{_WORDS.get(state(result), '')}"
            )
    return "\n".join(lines)


def _value(result: LayerResult) -> str:
    measure = shown(result)
    if state(result) is State.IMPOSSIBLE or not measure:
        return f"✗ {brief(result.problem or 'nothing')}"
    return number(measure.rms_rel)


def scatter(every: Sequence[Artifact], results: Results) -> Scatter:
    """Every layer that was both run in its net and replayed alone."""
    both = [
        (n, result, result.own, result.inherited)
        for n, found in enumerate(results)
        for result in found.values()
        if result.own and result.inherited
    ]
    one = (0.1, 10.0)  # the limit always stands within the figure
    x = Axis.over([*one, *(share(own) for _, _, own, _ in both)], 70, 450, 46)
    y = Axis.over([*one, *(share(there) for _, _, _, there in both)], 310, 20, 334)
    dots = tuple(
        Dot(
            n,
            marker((x(share(own)), y(share(there))), n),
            not result.passed,
            f"{plain(result.layer)}{_WORDS.get(state(result), '')}\n{plain(every[n].label)}\n"
            f"own {roundings(own.roundings)} of {number(own.limit)} roundings\n"
            f"inherited {roundings(there.roundings)} of {number(there.limit)} roundings",
        )
        for n, result, own, there in both
    )
    return Scatter(x, y, dots, sum(map(len, results)) - len(both))


def histograms(layers: Sequence[str], results: Results) -> Iterator[Cell]:
    """One for each layer that has counts."""
    for layer in layers:
        found = [(n, each[layer]) for n, each in enumerate(results) if layer in each]
        found.sort(key=lambda each: state(each[1]).bad)  # what is bad is drawn on top
        outlines = tuple(
            (n, steps(result.histogram, *CELL), state(result).bad)
            for n, result in found
            if any(result.histogram)
        )
        states = {state(result) for _, result in found}
        if outlines:
            made = any(each.bad and each is not State.CARRIED for each in states)
            yield Cell(layer, "✗" if made else "↓" if State.CARRIED in states else "", outlines)
