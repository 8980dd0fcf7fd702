"""Which layers read which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from converters.checkpoint import Checkpoint, Layer, Origin
from verify.wiring import misread, order

CHAIN = (
    ("conv1", "conv", ("input",)),
    ("pool1", "pool", ("conv1",)),
    ("relu1", "relu", ("pool1",)),
    ("conv2", "conv", ("relu1",)),
    ("sum", "sum", ("relu1", "conv2")),
)
NET = Checkpoint(
    {},
    tuple(Layer(name, kind, inputs, (), {}) for name, kind, inputs in CHAIN),
    {},
    Origin(Path("net.mat"), "matconvnet"),
)
READS = {"input": ("image",), **{name: inputs for name, _, inputs in CHAIN}}


@dataclass
class Wired:
    """What is asked of a runner."""

    reads: Mapping[str, tuple[str, ...]]
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.layers = self.layers or tuple(self.reads)


def wired(**changed: tuple[str, ...]) -> Any:
    return Wired({**READS, **changed})


def without(layer: str) -> Any:
    """The layer is there, but has no name."""
    before = READS[layer][0]
    return Wired(
        {
            name: tuple(before if each == layer else each for each in inputs)
            for name, inputs in READS.items()
            if name != layer
        }
    )


@pytest.mark.parametrize(
    ("runner", "expected"),
    [
        (wired(), {}),
        (wired(sum=("conv2", "relu1")), {}),
        (wired(conv2=("pool1",)), {"conv2": "reads pool1, in the source relu1"}),
        (wired(conv1=("image",)), {"conv1": "reads image, in the source input"}),
        (wired(sum=("conv2",)), {"sum": "reads conv2, in the source relu1, conv2"}),
        (wired(conv2=("relu1", "conv1")), {"conv2": "reads relu1, conv1, in the source relu1"}),
        (
            wired(pool1=("relu1",), relu1=("conv1",), conv2=("pool1",), sum=("pool1", "conv2")),
            {
                "pool1": "reads relu1, in the source conv1",
                "relu1": "reads conv1, in the source pool1",
                "conv2": "reads pool1, in the source relu1",
                "sum": "reads pool1, conv2, in the source relu1, conv2",
            },
        ),
        # a layer that the artifact does not name, and one that the source does not have
        (without("relu1"), {}),
        (without("input"), {}),
        (without("pool1"), {}),
        (Wired({**READS, "conv2": ("drop1",), "drop1": ("relu1",)}), {}),
        (
            Wired({**READS, "conv2": ("drop1",), "drop1": ("pool1",)}),
            {"conv2": "reads pool1, in the source relu1"},
        ),
        # one that does not know
        (Wired({}, tuple(READS)), {}),
        (object(), {}),
    ],
)
def test_what_reads_other_layers_than_in_the_source_is_named(
    runner: Any, expected: dict[str, str]
) -> None:
    assert misread(NET, runner) == expected


SWAPPED = ("input", "conv1", "relu1", "pool1", "conv2", "sum")
READS_SWAPPED = {**READS, "relu1": ("conv1",), "pool1": ("relu1",), "conv2": ("pool1",)}
EXCHANGED = ("input", "conv2", "pool1", "relu1", "conv1", "sum")
READS_EXCHANGED = {**READS, "conv2": ("input",), "pool1": ("conv2",), "conv1": ("relu1",)}
ORDER = "the order: relu1 runs before pool1, in the source behind it"


@pytest.mark.parametrize(
    ("runner", "layer", "expected"),
    [
        (Wired(READS_SWAPPED, SWAPPED), "pool1", ORDER),
        (Wired(READS_SWAPPED, SWAPPED), "relu1", ORDER),
        (Wired(READS_SWAPPED, SWAPPED), "conv2", ""),
        (Wired({}, SWAPPED), "pool1", ORDER),  # it does not know what its layers read
        (Wired(READS_EXCHANGED, EXCHANGED), "conv1", "the names of conv1 and conv2 are exchanged"),
        # pool1 is bypassed and happens to be listed later
        (Wired({**READS, "relu1": ("conv1",)}, SWAPPED), "relu1", ""),
        (Wired(READS, tuple(READS)), "pool1", ""),
        (Wired(READS, SWAPPED[:-1]), "pool1", ""),
    ],
)
def test_two_layers_in_each_other_s_place_are_told(runner: Any, layer: str, expected: str) -> None:
    assert order(NET, runner, layer) == expected
