"""Height and width of what each layer of a net makes, without running it. No Keras here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from netvlad_keras.errors import NetError

if TYPE_CHECKING:
    from netvlad_keras.net import NetLayer, NetSpec

__all__ = ["fits", "slid", "smallest"]

Size = tuple[int, int]

#: No net needs more.
_LARGEST = 2**14


def smallest(spec: NetSpec) -> Size:
    """Smallest height and smallest width of all inputs for which every layer has an output.

    Raises `NetError` for a net that has none at any size.
    """
    return _smallest(spec, 0), _smallest(spec, 1)


def _smallest(spec: NetSpec, axis: int) -> int:
    def enough(size: int) -> bool:
        given = (size, _LARGEST) if axis == 0 else (_LARGEST, size)
        return fits(spec, {name: given for name, _ in spec.inputs})

    low, high = 0, 1  # too small, and perhaps large enough
    while not enough(high):
        low, high = high, 2 * high
        if high > _LARGEST:
            raise NetError([f"no input up to {_LARGEST}×{_LARGEST} gets through every layer"])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def fits(spec: NetSpec, inputs: Mapping[str, Size]) -> bool:
    """Whether every layer has an output for inputs of these heights and widths."""
    found = dict(inputs)
    for row in spec.rows:
        follow = _KINDS.get(row.kind, _first)
        found[row.name] = follow(row, [found[name] for name in row.inputs])
        if min(found[row.name]) < 1:
            return False
    return True


def slid(size: int, extent: int, stride: int, pads: int) -> int:
    """How often a window of `extent` fits: floor((size + pads - extent) / stride) + 1."""
    return (size + pads - extent) // stride + 1


def _numbers(row: NetLayer, option: str, default: Sequence[int]) -> list[int]:
    return [int(value) for value in row.options.get(option, default)]


def _kernel(row: NetLayer) -> Sequence[int]:
    return next((w.shape[:2] for w in row.weights if w.role == "kernel"), (1, 1))


def _window(row: NetLayer, size: Size, extent: Sequence[int]) -> Size:
    pads = _numbers(row, "pad", (0, 0, 0, 0))
    stride = _numbers(row, "stride", (1, 1))
    high, wide = (
        slid(size[axis], extent[axis], stride[axis], sum(pads[2 * axis : 2 * axis + 2]))
        for axis in (0, 1)
    )
    return high, wide


def _conv(row: NetLayer, sizes: Sequence[Size]) -> Size:
    rates = _numbers(row, "dilate", (1, 1))
    extent = [(size - 1) * rate + 1 for size, rate in zip(_kernel(row), rates, strict=True)]
    return _window(row, sizes[0], extent)


def _convt(row: NetLayer, sizes: Sequence[Size]) -> Size:
    up, crop = _numbers(row, "upsample", (1, 1)), _numbers(row, "crop", (0, 0, 0, 0))
    high, wide = (
        up[axis] * (sizes[0][axis] - 1) + _kernel(row)[axis] - sum(crop[2 * axis : 2 * axis + 2])
        for axis in (0, 1)
    )
    return high, wide


def _concat(row: NetLayer, sizes: Sequence[Size]) -> Size:
    axis = {1: 0, 2: 1}.get(int(row.options.get("dim", 3)))
    high, wide = ((sum if i == axis else min)(size[i] for size in sizes) for i in (0, 1))
    return high, wide


def _crop(row: NetLayer, sizes: Sequence[Size]) -> Size:
    source, wanted = sizes
    return wanted if source[0] >= wanted[0] and source[1] >= wanted[1] else (0, 0)


def _first(row: NetLayer, sizes: Sequence[Size]) -> Size:
    return sizes[0]


def _largest(row: NetLayer, sizes: Sequence[Size]) -> Size:
    """A vector may be spread over a map."""
    return max(size[0] for size in sizes), max(size[1] for size in sizes)


def _one(row: NetLayer, sizes: Sequence[Size]) -> Size:
    return 1, 1


#: What is not here keeps the size of its first input.
_KINDS: dict[str, Callable[[NetLayer, Sequence[Size]], Size]] = {
    "conv": _conv,
    "convt": _convt,
    "pool": lambda row, sizes: _window(row, sizes[0], _numbers(row, "pool", (1, 1))),
    "concat": _concat,
    "product": _largest,
    "scale": _largest,
    "Axpy": _largest,
    "crop": _crop,
    "affinegrid": lambda row, _: (int(row.options["Ho"]), int(row.options["Wo"])),
    "bilinearsampler": lambda row, sizes: sizes[1],
    **dict.fromkeys(
        (
            *("flatten", "layerVLAD", "layerVLADv2", "layerWholeL2Normalize"),
            *("layerTotalMaxPool", "layerTotalAvgPool"),
        ),
        _one,
    ),
}
