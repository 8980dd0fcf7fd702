"""The classes of MatConvNet's DagNN layers, in the words of SimpleNN.

Classes, properties and their defaults: MatConvNet 1.0-beta25, `matlab/+dagnn`;
Flatten, Times and Mult are people's own classes, common in published nets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.readers.mat_value import Struct, Value, is_empty, numbers
from converters.readers.simplenn_options import is_known

__all__ = ["BLOCKS", "BORDERS", "Block", "parameter_count", "settings"]


@dataclass(frozen=True, slots=True)
class Block:
    """How a class is called in SimpleNN.

    kind      the type; its settings and their defaults are SimpleNN's.
    renamed   properties that SimpleNN calls otherwise.
    defaults  of the class, where SimpleNN has none or another.
    """

    kind: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


#: Class without `dagnn.` -> what it is.
BLOCKS: Mapping[str, Block] = {
    "Conv": Block("conv"),
    "ConvTranspose": Block("convt"),
    "Pooling": Block("pool", {"poolSize": "pool"}, {"pool": (1, 1)}),
    "ReLU": Block("relu"),
    "Sigmoid": Block("sigmoid"),
    "SoftMax": Block("softmax"),
    "BatchNorm": Block("bnorm"),
    "DropOut": Block("dropout"),
    "LRN": Block("normalize"),
    "SpatialNorm": Block("spnorm", {}, {"param": (2, 2, 10, 2)}),
    "NormOffset": Block("normoffset", {}, {"param": (1, 0.5)}),
    "Concat": Block("concat"),
    "Sum": Block("sum"),
    "Times": Block("product"),
    "Mult": Block("product"),
    "Scale": Block("scale"),
    "Crop": Block("crop"),
    "Flatten": Block("flatten"),
    "BilinearSampler": Block("bilinearsampler"),
    "AffineGridGenerator": Block("affinegrid"),
}

#: Kinds whose setters take two numbers for four: (top and bottom, left and right).
BORDERS: Mapping[str, str] = {"conv": "pad", "pool": "pad", "convt": "crop"}
_WITH_BIAS = frozenset({"conv", "convt", "scale"})


def settings(classname: str, block: Struct) -> tuple[str, Struct]:
    """The kind of a class and its block as SimpleNN has it.

    An unknown class keeps its own name, with `dagnn.` where SimpleNN has a type
    of that name, for nobody knows that they are the same.
    """
    known = BLOCKS.get(classname)
    if known is None:
        return f"dagnn.{classname}" if is_known(classname) else classname, block
    found: Struct = {name: np.array(value) for name, value in known.defaults.items()}
    found |= {known.renamed.get(k, k): v for k, v in block.items() if not is_empty(v)}
    border = BORDERS.get(known.kind, "")
    if border in found and len(two := numbers(found[border]) or ()) == 2:
        found[border] = np.repeat(two, 2)
    return known.kind, found


def parameter_count(kind: str, block: Mapping[str, Value], inputs: int) -> int | None:
    """How many parameters a layer reads by its `hasBias`, true by default; None: all it names.

    Scale takes its multiplier and its bias from its inputs after the first, then
    from its parameters.
    """
    if kind not in _WITH_BIAS:
        return None
    said = block.get("hasBias")
    bias = True if said is None else bool(numbers(said) != (0,))
    return 1 + bias if kind != "scale" else max(0, 2 + bias - inputs)
