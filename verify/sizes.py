"""Which sizes a net takes, by the arithmetic of shapes alone: `smallest_size`.

A shape is (height, width, channels) of N×H×W×C. What cannot be told is `None` and fits anything:
the channels of an input, whatever a custom kind makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from types import MappingProxyType

from converters.checkpoint import Array, Checkpoint, Layer
from converters.errors import ConversionError
from verify.names.matconvnet import MERGED, SUBTRACTED

__all__ = ["FOLLOWED", "smallest_size", "takes"]

Length = int | None
Shape = tuple[Length, Length, Length]
#: A layer's shape from its inputs' and its weights; a `ValueError` if they do not fit.
Rule = Callable[[Layer, Sequence[Shape], Sequence[Array]], Shape]

#: Sides are tried up to this one.
_LARGEST = 1024
_UNKNOWN: Shape = (None, None, None)


def smallest_size(checkpoint: Checkpoint) -> tuple[int, int]:
    """Smallest height and width of an input for which every layer makes something.

    Of several inputs each is tried alone, and the largest of their heights and widths is given.
    A side is that of the smallest square that fits, then made shorter for itself. A net of a
    fixed size that is no square is tried at its `imageSize`. Raises `ConversionError` for a net
    that takes no size up to 1024.
    """
    made = {layer.name for layer in checkpoint.layers}
    read = dict.fromkeys(name for layer in checkpoint.layers for name in layer.inputs)
    sizes = [_smallest(checkpoint, name) for name in read if name not in made]
    if not sizes:
        raise ConversionError(f"{checkpoint.origin.path}: holds no layers that read an input")
    heights, widths = zip(*sizes, strict=True)
    return max(heights), max(widths)


def takes(checkpoint: Checkpoint, height: int, width: int) -> bool:
    """Whether every layer makes something when all inputs are of this size."""
    made = {layer.name for layer in checkpoint.layers}
    read = {name for layer in checkpoint.layers for name in layer.inputs} - made
    return not _fault(checkpoint, read, height, width)


def _smallest(checkpoint: Checkpoint, name: str) -> tuple[int, int]:
    squares = ((side, side) for side in range(1, _LARGEST + 1))
    stated = checkpoint.preprocessing.get("imageSize", ())
    whole = tuple(int(side) for side in stated[:2]) if isinstance(stated, tuple) else ()
    tried = [whole] if len(whole) == 2 else []
    for height, width in (*squares, *tried):
        if _fits(checkpoint, name, height, width):
            break
    else:
        raise ConversionError(
            f"{checkpoint.origin.path}: no {name} up to {_LARGEST}×{_LARGEST} gets through every "
            f"layer, the largest fails at {_fault(checkpoint, [name], _LARGEST, _LARGEST)}"
        )
    height = next(n for n in range(1, height + 1) if _fits(checkpoint, name, n, width))
    width = next(n for n in range(1, width + 1) if _fits(checkpoint, name, height, n))
    return height, width


def _fits(checkpoint: Checkpoint, name: str, height: int, width: int) -> bool:
    return not _fault(checkpoint, [name], height, width)


def _fault(checkpoint: Checkpoint, names: Iterable[str], height: int, width: int) -> str:
    """The first layer that makes nothing of an input of this size, and why; or nothing."""
    found: dict[str, Shape] = dict.fromkeys(names, (height, width, None))
    for layer in checkpoint.layers:
        rule = _RULES.get(layer.kind, _anything)
        try:
            weights = [checkpoint.tensors[param] for param in layer.params]
            shape = rule(layer, [found.get(each, _UNKNOWN) for each in layer.inputs], weights)
        except (ValueError, LookupError) as error:
            return f"{layer.name}: {error}"
        found[layer.name] = shape
    return ""


def _slid(length: Length, extent: int, stride: float, pads: float) -> Length:
    """How often a window fits: floor((length + pads - extent) / stride) + 1."""
    if length is None:
        return None
    count = int((length + pads - extent) // stride) + 1
    if count < 1:
        raise ValueError(f"a window of {extent} is larger than {length}")
    return count


def _window(layer: Layer, shape: Shape, extent: Sequence[int]) -> tuple[Length, Length]:
    pad, stride = layer.options.get("pad", (0,) * 4), layer.options.get("stride", (1, 1))
    high = _slid(shape[0], extent[0], stride[0], pad[0] + pad[1])
    return high, _slid(shape[1], extent[1], stride[1], pad[2] + pad[3])


def _conv(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    *size, depth, count = weights[0].shape
    channels = shapes[0][2]
    groups, rest = divmod(depth if channels is None else channels, depth)
    if rest or not groups or count % groups:
        raise ValueError(f"{count} filters of depth {depth} for {channels} channels")
    rates = layer.options.get("dilate", (1, 1))
    extent = [(n - 1) * int(rate) + 1 for n, rate in zip(size, rates, strict=True)]
    return (*_window(layer, shapes[0], extent), count)


def _convt(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    *size, count, _ = weights[0].shape
    up, crop = layer.options.get("upsample", (1, 1)), layer.options.get("crop", (0,) * 4)
    sides: list[Length] = []
    for axis, length in enumerate(shapes[0][:2]):
        cut = crop[2 * axis] + crop[2 * axis + 1]
        made = None if length is None else int(up[axis] * (length - 1) + size[axis] - cut)
        if made is not None and made < 1:
            raise ValueError("its crop leaves nothing")
        sides.append(made)
    return sides[0], sides[1], count * int(layer.options.get("numGroups", 1))


def _pool(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    size = [int(n) for n in layer.options["pool"]]
    return (*_window(layer, shapes[0], size), shapes[0][2])


def _concat(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    along = int(layer.options.get("dim", 3)) - 1
    sides = [
        _sum(lengths) if axis == along else _same(lengths)
        for axis, lengths in enumerate(zip(*shapes, strict=True))
    ]
    return sides[0], sides[1], sides[2]


def _add(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    high, wide, channels = (_same(lengths) for lengths in zip(*shapes, strict=True))
    return high, wide, channels


def _spread(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    """An axis of 1 is spread; a weight is H×W×C, or C."""
    own: list[Shape] = [(1, 1, *w.shape)[-3:] for w in weights]
    high, wide, channels = (
        _same([n for n in lengths if n != 1] or [1]) for lengths in zip(*shapes, *own, strict=True)
    )
    return high, wide, channels


def _crop(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    for length, wanted in zip(shapes[0][:2], shapes[1][:2], strict=True):
        if length is not None and wanted is not None and length < wanted:
            raise ValueError(f"{length} cannot be cropped to {wanted}")
    return shapes[1][0], shapes[1][1], shapes[0][2]


def _flat(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    sides: list[Length] = [1, 1, 1]
    sides[int(layer.options.get("axis", 3)) - 1] = _product(shapes[0])
    return sides[0], sides[1], sides[2]


def _grid(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    count = 6 if layer.kind == "affinegrid" else 3
    if _product(shapes[0]) not in (None, count):
        raise ValueError(f"{shapes[0]} are not the {count} numbers of a transformation")
    return 2, int(layer.options["Ho"]), int(layer.options["Wo"])


def _regions(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    high, wide = (int(n) for n in layer.options.get("subdivisions", (6, 6)))
    shape = high, wide, shapes[0][2]
    return (1, 1, _product(shape)) if layer.options.get("flatten") else shape


def _vlad(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    *_, channels, clusters = weights[0].shape
    _same([shapes[0][2], channels])
    return 1, clusters, channels


def _anything(layer: Layer, shapes: Sequence[Shape], weights: Sequence[Array]) -> Shape:
    return _UNKNOWN


def _product(lengths: Sequence[Length]) -> Length:
    return None if None in lengths else prod(n for n in lengths if n is not None)


def _sum(lengths: Sequence[Length]) -> Length:
    return None if None in lengths else sum(n for n in lengths if n is not None)


def _same(lengths: Sequence[Length]) -> Length:
    known = sorted({n for n in lengths if n is not None})
    if len(known) > 1:
        raise ValueError(f"its inputs differ: {', '.join(map(str, known))}")
    return known[0] if known else None


#: Kinds that change nothing of a shape.
_AS_IT_IS = (
    *("relu", "sigmoid", "softmax", "dropout", "bnorm"),
    *("normalize", "lrn", "spnorm", "normoffset", "noffset", SUBTRACTED),
)
_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(_AS_IT_IS, lambda layer, shapes, weights: shapes[0]),
        **dict.fromkeys(("product", "scale", "Axpy"), _spread),
        **dict.fromkeys(("affinegrid", "UniformScalingGridGenerator"), _grid),
        **dict.fromkeys(("layerVLAD", "layerVLADv2"), _vlad),
        **dict.fromkeys(
            ("layerTotalMaxPool", "layerTotalAvgPool"), lambda _, shapes, __: (1, 1, shapes[0][2])
        ),
        "layerWholeL2Normalize": lambda _, shapes, __: (1, 1, _product(shapes[0])),
        **dict.fromkeys(("conv", MERGED["conv"]), _conv),
        **dict.fromkeys(("convt", MERGED["convt"]), _convt),
        "pool": _pool,
        "concat": _concat,
        "sum": _add,
        "crop": _crop,
        "flatten": _flat,
        "bilinearsampler": lambda _, shapes, __: (shapes[1][1], shapes[1][2], shapes[0][2]),
        "ROIPooling": _regions,
        "PDist": lambda layer, shapes, __: (
            (1, 1, 1) if layer.options.get("aggregate", True) else (*shapes[0][:2], 1)
        ),
    }
)

#: Kinds whose sizes are known here.
FOLLOWED = frozenset(_RULES)
