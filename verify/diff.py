"""Two artifacts against each other, layer by layer, where no source is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import ConversionError, MappingError
from verify import regimes
from verify.capture import Array, Runner
from verify.formats import open_all, open_artifact
from verify.regimes import Contract
from verify.unnamed import Shown

__all__ = ["Difference", "diff", "inputs", "opened"]

#: The inputs that are made, the first that both artifacts take, and how many are enough.
_MADE, _ENOUGH = ("photograph", "black", "odd", "noise"), 3


@dataclass(frozen=True, slots=True)
class Difference:
    """One layer of both.

    max_rel  largest |d| over the largest |value| of the first; `worst` its
             index, `first` and `second` the values there.
    problem  what makes a comparison impossible, in words.
    """

    layer: str
    max_rel: float = float("nan")
    worst: tuple[int, ...] = ()
    first: float = float("nan")
    second: float = float("nan")
    problem: str = ""


def diff(first: Runner, second: Runner, images: Array) -> Iterator[Difference]:
    """Run both on the same images, paired by name, in the first's order.

    A layer that only one of them has is a difference.
    """
    waiting = dict.fromkeys(first.layers)
    outputs = dict(second.run(images))
    for layer, values in first.run(images):
        waiting.pop(layer, None)
        if layer not in outputs:
            yield Difference(layer, problem="the second artifact has no such layer")
            continue
        yield _compared(layer, values, outputs.pop(layer))
    for layer in waiting:
        yield Difference(layer, problem="the first artifact did not run it")
    for layer in outputs:
        yield Difference(layer, problem="the first artifact has no such layer")


def _compared(layer: str, first: Array, second: Array) -> Difference:
    if first.shape != second.shape:
        return Difference(layer, problem=f"shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return Difference(layer, problem="NaN or infinity")
    distance = np.abs(first.astype(np.float64) - second)
    worst = tuple(int(i) for i in np.unravel_index(int(distance.argmax()), distance.shape))
    largest = float(np.abs(first).max())
    error = float(distance[worst])
    relative = error / largest if largest else (0.0 if error == 0 else float("inf"))
    return Difference(layer, relative, worst, float(first[worst]), float(second[worst]))


def opened(first: Path, second: Path) -> tuple[tuple[Any, Any], bool]:
    """Both artifacts, and whether the layers' names cover them to their outputs.

    By those names they are opened then, else so that they show all values. Raises what
    `open_all` does.
    """
    shown = open_all(first), open_all(second)
    ends = {end for runner in shown for end in _ends(runner)}
    try:
        named = open_artifact(first), open_artifact(second)
    except MappingError:
        return shown, False
    layers = {frozenset(runner.layers) for runner in named}
    covered = len(layers) == 1 and all(ends <= names for names in layers)
    return (named, True) if covered else (shown, False)


def inputs(first: Shown, second: Shown, picture: Path | None = None) -> dict[str, Array]:
    """Several inputs N×H×W×C that both take, by name; `picture` and others of its size.

    Raises `ConversionError` where there is none, `ReadError` for a picture that is none.
    """
    sizes = zip(first.takes.shape, second.takes.shape, strict=True)
    count, height, width, channels = (one or other for one, other in sizes)
    plain = Contract(channels=channels or 3)
    found = {picture.name: regimes.given(picture, plain)} if picture else {}
    for images in found.values():
        height, width = images.shape[1:3]
    size = height or plain.size[0], width or plain.size[1]
    contract = Contract(plain.channels, size=size, smallest=(1, 1))
    found |= regimes.regimes(contract, [name for name in _MADE if not (found and name == "odd")])
    if count:
        found = {n: i if len(i) == count else i[:1].repeat(count, 0) for n, i in found.items()}
    fitting = {
        name: images for name, images in found.items() if not _refused(first, second, images)
    }
    if not fitting or (picture and picture.name not in fitting):
        reason = _refused(first, second, next(iter(found.values())))
        raise ConversionError(f"there is no input that both artifacts take: {reason}")
    return dict(list(fitting.items())[:_ENOUGH])


def _refused(first: Shown, second: Shown, images: Array) -> str:
    for runner in (first, second):
        try:
            runner.takes.fitted(images)
        except ConversionError as error:
            return error.message
    return ""


def _ends(runner: Shown) -> set[str]:
    return set(runner.layers) - {name for names in runner.reads.values() for name in names}
