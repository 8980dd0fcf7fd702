"""`Layered`: a net that can compute any of its layers from what that layer reads.

A run goes from layer to layer and drops a value as soon as no later layer reads it, so that
memory does not grow with the depth; a replay is one of its steps. What a layer reads is taken
from the artifact's own graph, never from the source's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import ConversionError, LayerError
from verify.axes import turned
from verify.capture import Array
from verify.names.canonical import IMAGE, Place, layer_axes

__all__ = [
    *("Images", "Layered", "Step", "Whole"),
    *("in_order", "own_named", "sources", "weights_only"),
]

#: A layer's output from what it reads, all as the artifact lays them out.
Step = Callable[[str, Sequence[Array]], Array]
#: All outputs that users see, by canonical name, from every input by its name.
Whole = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Images:
    """What an artifact takes: sizes N, H, W, C, None for any, and the type of its numbers."""

    shape: tuple[int | None, ...] = (None, None, None, None)
    dtype: str = "float32"

    @classmethod
    def lying(cls, shape: Sequence[int | None] | None, dtype: str) -> tuple[Images, str]:
        """What an input of this shape takes, and its axes, `NHWC` or `NCHW`."""
        shape = tuple(shape) if shape and len(shape) == 4 else (None,) * 4
        if shape[1] in (1, 3) and shape[3] not in (1, 3):
            return cls((shape[0], shape[2], shape[3], shape[1]), dtype), "NCHW"
        return cls(shape, dtype), "NHWC"

    def fitted(self, images: Array) -> Array:
        """`images` in the artifact's type. Raises `ConversionError` where they do not fit."""
        images = np.asarray(images)
        if images.ndim != 4 or any(
            size not in (None, given) for size, given in zip(self.shape, images.shape, strict=True)
        ):
            sizes = "×".join("any" if size is None else str(size) for size in self.shape)
            raise ConversionError(f"it takes images of {sizes}, these are {images.shape}")
        if np.dtype(self.dtype).kind == "f":
            return images.astype(self.dtype, copy=False)
        whole = images.astype(self.dtype)
        if not np.array_equal(whole, images):
            raise ConversionError(f"it takes {self.dtype}, these images hold other numbers")
        return whole


@dataclass(slots=True)
class Layered:
    """A `Runner`, put together by its format's module; its attributes are settable, as that asks.

    kind, layers, notes  as `Runner` has them.
    reads   layer -> the layers whose outputs it reads, `image` for the net's input; where there
            are several inputs, their own names.
    alone   layer -> the layer cut out as an ONNX model, or None.
    axes    of the values that lie otherwise than in a capture, `image` among them.
    takes   the images; of several inputs, each by its name.
    step    computes one layer.
    stored  the weights by canonical name.
    whole   inputs -> the outputs that the artifact's users see, by canonical name.
    numbers what it computes in, as it says itself: `float32`, `float16` or `int8`.
    """

    kind: str
    path: Path
    reads: Mapping[str, tuple[str, ...]]
    takes: Images | Mapping[str, Images]
    step: Step
    stored: Callable[[], Mapping[str, Array]]
    whole: Whole
    axes: Mapping[str, str] = field(default_factory=dict)
    alone: Callable[[str], Any] = lambda layer: None
    notes: tuple[str, ...] = ()
    numbers: str = "float32"
    layers: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.layers = in_order(self.path, self.reads)

    @property
    def inputs(self) -> Mapping[str, Images]:
        """What each input takes, by its name."""
        return {IMAGE: self.takes} if isinstance(self.takes, Images) else self.takes

    def _fed(self, images: Array | Mapping[str, Array]) -> dict[str, Array]:
        """Every input by its name here. A net of one input may call it as it likes."""
        given = images if isinstance(images, Mapping) else {IMAGE: images}
        if len(given) == len(self.inputs) == 1:
            given = dict(zip(self.inputs, given.values(), strict=True))
        if set(given) != set(self.inputs):
            raise ConversionError(
                f"{self.path}: takes {', '.join(self.inputs)}; given: {', '.join(given)}"
            )
        return {name: takes.fitted(given[name]) for name, takes in self.inputs.items()}

    def _fitted(self, name: str, values: Array) -> Array:
        return self.inputs[name].fitted(values) if name in self.inputs else values

    def run(self, images: Array | Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Yield every layer's output for images N×H×W×C, in order.

        Raises `ConversionError` for images that the artifact does not take, `LayerError` from
        the layer that cannot be computed.
        """
        values = self._fed(images)
        last = {name: layer for layer in self.layers for name in self.reads[layer]}
        for layer in self.layers:
            output = self._computed(layer, [values[name] for name in self.reads[layer]])
            for name in set(self.reads[layer]):
                if last[name] == layer:
                    del values[name]
            if layer in last:
                values[layer] = output
            yield layer, output

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        """One layer alone, fed with `inputs` in place of what it reads, in `reads`' order.

        Raises `ConversionError` for a layer that is not there, `LayerError` for one that does not
        take these inputs.
        """
        if layer not in self.reads:
            raise ConversionError(f"{self.path}: there is no layer {layer!r}")
        reads = self.reads[layer]
        if len(reads) != len(inputs):
            fault = f"reads {', '.join(reads) or 'nothing'}; {len(inputs)} inputs were given"
            raise LayerError(self.path, {layer: fault})
        return self._computed(
            layer,
            [self._fitted(name, values) for name, values in zip(reads, inputs, strict=True)],
        )

    def laid(
        self, layer: str, inputs: Sequence[Array], expected: Array, found: Array
    ) -> tuple[Sequence[Array], Array, Array]:
        """One layer's captures as the artifact itself has them: its axes, its order."""
        given = [
            self._laid(name, self._fitted(name, values))
            for name, values in zip(self.reads[layer], inputs, strict=True)
        ]
        return given, self._laid(layer, expected), self._laid(layer, found)

    def weights(self) -> Mapping[str, Array]:
        """Every weight by its canonical name, see `Runner`."""
        return self.stored()

    def deployed(self, images: Array | Mapping[str, Array]) -> Mapping[str, Array]:
        """What a user of the artifact gets: the whole net at once, as its own library runs it.

        By canonical name, the descriptor last; an output that is called otherwise, before those.
        Raises `ConversionError`.
        """
        given = self._fed(images)
        try:
            found = self.whole({name: self._laid(name, values) for name, values in given.items()})
            known = [name for name in self.layers if name in found]
            names = (*(name for name in found if name not in known), *known)
            return {name: self._capture(name, found[name]) for name in names}
        except ConversionError:
            raise
        except Exception as error:
            raise ConversionError(f"{self.path}: cannot be run: {_first_line(error)}") from error

    def _computed(self, layer: str, inputs: Sequence[Array]) -> Array:
        """The border to the library that runs it: what it raises becomes a `LayerError`."""
        try:
            laid = [self._laid(n, x) for n, x in zip(self.reads[layer], inputs, strict=True)]
            output = self._capture(layer, self.step(layer, laid))
        except ConversionError:
            raise
        except Exception as error:
            raise LayerError(self.path, {layer: _first_line(error)}) from error
        if not output.size:
            raise LayerError(self.path, {layer: f"its output is empty, {output.shape}"})
        return output

    def _laid(self, name: str, values: Array) -> Array:
        axes = self.axes.get(name)
        return turned(values, layer_axes(name), axes) if axes else values

    def _capture(self, name: str, values: Array) -> Array:
        axes = self.axes.get(name)
        return turned(values, axes, layer_axes(name)) if axes else values


def weights_only(
    kind: str, path: Path, stored: Callable[[], Mapping[str, Array]], notes: tuple[str, ...] = ()
) -> Layered:
    """A file of weights: no layers, nothing to run."""
    return Layered(kind, path, {}, Images(), _nothing, stored, lambda images: {}, notes=notes)


def sources(
    value: str, named: Mapping[str, str], inputs_of: Callable[[str], Sequence[str]]
) -> tuple[str, ...]:
    """The layers (`named`: value -> layer) that a value is computed from, in the order read.

    `inputs_of` gives the values that a value's maker reads. What lies behind a named value
    belongs to that layer.
    """
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = list(reversed(inputs_of(value)))
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in named:
            found[named[name]] = None
        else:
            waiting += reversed(inputs_of(name))
    return tuple(found)


def own_named(places: Mapping[str, Place], values: Iterable[str]) -> dict[str, Place]:
    """`places`, and under their own names the `values` of an artifact that are none of them."""
    taken = {IMAGE, *places, *(place.tensor for place in places.values())}
    return {**places, **{value: Place(value) for value in values if value not in taken}}


def in_order(path: Path, reads: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The layers, each behind what it reads. Raises `LayerError` for one that reads itself."""
    try:
        order = tuple(TopologicalSorter(reads).static_order())
    except CycleError as error:
        raise LayerError(path, {error.args[1][0]: "depends on its own output"}) from error
    return tuple(name for name in order if name in reads)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"


def _nothing(layer: str, inputs: Sequence[Array]) -> Array:
    raise NotImplementedError(layer)
