"""How an artifact computes, `FLOAT32` or `FLOAT16`: what that costs at a layer is what it may cost.

A file that is declared to be rounded to float16 holds weights and hands on activations in float16,
but for the kinds of layers of `KEPT`, which it leaves in float32: norms, sums over an image and
softmax, where float16 overflows (the squares of a VGG-16's conv5_3 sum up to more than 65,504),
loses an epsilon of 1e-12, or drops a cluster that a norm then makes as long as any other.
The oracle does the same, layer by layer, and its distance from float64 is the unit in which the
artifact's is measured, at least 2⁻¹¹ of the layer's largest value where that of float32 is 2⁻²⁴.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any

import numpy as np

from converters.checkpoint import Checkpoint, Layer
from verify import compare, oracle
from verify.candidate import expected_alone
from verify.capture import Array, Images
from verify.names.matconvnet import SUBTRACTED
from verify.operators import OPERATORS, Operator

__all__ = ["FLOAT16", "FLOAT32", "KEPT", "UNIT", "Arithmetic"]

#: Kinds that stay in float32, with the weights that they have.
KEPT = frozenset(
    {
        *("normalize", "lrn", "spnorm", "normoffset", "noffset", "bnorm", "softmax", "PDist"),
        *("layerVLAD", "layerVLADv2", "layerWholeL2Normalize", "layerTotalAvgPool"),
        SUBTRACTED,
    }
)
#: Half an ulp of the largest value.
UNIT = 2.0**-11


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How weights are stored and activations handed on, `float32` or `float16`."""

    dtype: str

    def execute(self, checkpoint: Checkpoint, images: Images) -> Iterator[tuple[str, Array]]:
        """The whole net in this arithmetic, see `oracle.execute`."""
        operators = OPERATORS if self.dtype == "float32" else _halved()
        return oracle.execute(checkpoint, images, np.float32, operators=operators)

    def held(self, checkpoint: Checkpoint, layer: Layer, inputs: Sequence[Array]) -> list[Array]:
        """A layer's inputs as they can be handed to it: rounded if it, or what makes them, is."""
        if self.dtype == "float32":
            return list(inputs)
        kinds = {each.name: each.kind for each in checkpoint.layers}
        return [
            x if {layer.kind, kinds.get(name, SUBTRACTED)} <= KEPT else _half(x)
            for name, x in zip(layer.inputs, inputs, strict=True)
        ]

    def alone(
        self, checkpoint: Checkpoint, layer: Layer, inputs: Sequence[Array]
    ) -> compare.Reference:
        """What the source's layer gives on inputs that are `held`, and what this costs there."""
        if self.dtype == "float32" or layer.kind in KEPT:
            return expected_alone(checkpoint, layer.name, inputs)
        exact = oracle.replay(checkpoint, layer.name, [x.astype(np.float64) for x in inputs])
        found = oracle.replay(checkpoint, layer.name, inputs, np.float32, operators=_halved())
        return compare.reference(exact, found, unit=UNIT)

    def narrow(self, checkpoint: Checkpoint, layer: Layer, inputs: Sequence[Array]) -> Array:
        """The layer alone, on its inputs as they can be handed to it."""
        operators = OPERATORS if self.dtype == "float32" else _halved()
        held = self.held(checkpoint, layer, inputs)
        return oracle.replay(checkpoint, layer.name, held, np.float32, operators=operators)

    def stored(self, right: Array, found: Array) -> Array:
        """A source's tensor as a file may hold it: rounded to the type that `found` is of."""
        narrow = right.astype(np.float32, copy=False)
        if self.dtype == "float16" and found.dtype == np.float16:
            with np.errstate(over="ignore"):
                return narrow.astype(np.float16)
        return narrow


FLOAT32 = Arithmetic("float32")
FLOAT16 = Arithmetic("float16")


def _halved() -> Mapping[str, Operator]:
    """Every kind's function; but for those of `KEPT`, with all that goes in or out rounded."""
    return MappingProxyType(
        {kind: f if kind in KEPT else _rounding(f) for kind, f in OPERATORS.items()}
    )


def _rounding(function: Operator) -> Operator:
    @wraps(function)
    def rounded(*arrays: Array, **options: Any) -> Array:
        return _half(function(*map(_half, arrays), **options))

    return rounded


def _half(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(x.dtype)
