"""The convolutional trunks that NetVLAD was published on, as tables of rows.

The order is that of Relja Arandjelović's MatConvNet code: a max-pool stands
before the relu of its block, and the last convolution has neither.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CAFFE", "MINI", "TRUNKS", "VD16", "VD19", "Row", "Trunk", "minimum_size", "until"]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer of a trunk, in MatConvNet's terms.

    kind    `conv`, `pool` (maximum), `relu` or `normalize` (across channels).
    kernel  height and width; stride likewise.
    pads    top, bottom, left, right.
    groups  filter groups of a convolution.
    width   output channels of a convolution.
    lrn     N, kappa, alpha, beta of a `normalize`.
    """

    kind: str
    name: str
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    width: int = 0
    lrn: tuple[float, ...] = ()


Trunk = tuple[Row, ...]


def _conv(
    name: str, size: int, width: int, *, stride: int = 1, pad: int = 0, groups: int = 1
) -> Row:
    pads = (pad, pad, pad, pad)
    return Row("conv", name, (size, size), (stride, stride), pads, groups, width)


def _vgg(depths: tuple[int, ...], widths: tuple[int, ...]) -> Trunk:
    """Blocks of 3×3 convolutions; the last relu and pool are cut off (Simonyan 2015)."""
    rows: list[Row] = []
    for block, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        for i in range(1, depth + 1):
            rows.append(_conv(f"conv{block}_{i}", 3, width, pad=1))
            if i == depth:
                rows.append(Row("pool", f"pool{block}", (2, 2), (2, 2)))
            rows.append(Row("relu", f"relu{block}_{i}"))
    return tuple(rows[:-2])


_LRN = (5, 1.0, 2e-5, 0.75)


def _caffe_pool(name: str) -> Row:
    return Row("pool", name, (3, 3), (2, 2), (0, 1, 0, 1))


VD16: Trunk = _vgg((2, 2, 3, 3, 3), (64, 128, 256, 512, 512))
VD19: Trunk = _vgg((2, 2, 4, 4, 4), (64, 128, 256, 512, 512))

#: The 35 layers of the published net, small enough for tests and demonstrations.
MINI: Trunk = _vgg((2, 2, 3, 3, 3), (8, 8, 12, 16, 16))

#: AlexNet as Caffe trained it (`imagenet-caffe-ref`), cut at conv5.
CAFFE: Trunk = (
    _conv("conv1", 11, 96, stride=4),
    _caffe_pool("pool1"),
    Row("relu", "relu1"),
    Row("normalize", "norm1", lrn=_LRN),
    _conv("conv2", 5, 256, pad=2, groups=2),
    _caffe_pool("pool2"),
    Row("relu", "relu2"),
    Row("normalize", "norm2", lrn=_LRN),
    _conv("conv3", 3, 384, pad=1),
    Row("relu", "relu3"),
    _conv("conv4", 3, 384, pad=1, groups=2),
    Row("relu", "relu4"),
    _conv("conv5", 3, 256, pad=1, groups=2),
)

#: By the published names' netID. Places-CNN has AlexNet's layers.
TRUNKS: dict[str, Trunk] = {
    "vd16": VD16,
    "vd19": VD19,
    "caffe": CAFFE,
    "places": CAFFE,
    "mini": MINI,
}


def until(trunk: Trunk, layer: str) -> Trunk:
    """The trunk up to and with `layer`. Raises `ValueError` if it has none of that name."""
    names = [row.name for row in trunk]
    if layer not in names:
        convs = ", ".join(row.name for row in trunk if row.kind == "conv")
        raise ValueError(f"the trunk has no layer {layer!r}; its convolutions are {convs}")
    return trunk[: names.index(layer) + 1]


def minimum_size(trunk: Trunk) -> int:
    """Smallest height and width in pixels for which every layer has an output."""
    return max(_minimum(trunk, axis) for axis in (0, 1))


def _minimum(trunk: Trunk, axis: int) -> int:
    size = 1
    for row in reversed(trunk):
        before, after = row.pads[2 * axis : 2 * axis + 2]
        size = max(1, (size - 1) * row.stride[axis] + row.kernel[axis] - before - after)
    return size
