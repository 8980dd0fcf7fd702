"""The layers of MatConvNet that are carried, as a table for people: `markdown`."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["SUPPORTED", "markdown"]

#: SimpleNN's type -> DagNN's class, and what is carried of it.
SUPPORTED: Mapping[str, tuple[str, str]] = {
    "conv": ("Conv", "uneven pads, strides, dilation, groups; fully connected layers"),
    "convt": ("ConvTranspose", "upsampling, uneven crop, groups"),
    "pool": ("Pooling", "maximum and average with MatConvNet's divisor, uneven pads"),
    "relu": ("ReLU", "with or without a leak"),
    "sigmoid": ("Sigmoid", ""),
    "softmax": ("SoftMax", "over the channels"),
    "bnorm": ("BatchNorm", "with its moments; `--merge-batchnorm` folds it away"),
    "dropout": ("DropOut", "in Keras for training; artifacts that only run have none"),
    "normalize": ("LRN", "across channels; L2 where the window spans them all"),
    "lrn": ("", "another name of `normalize`"),
    "spnorm": ("SpatialNorm", ""),
    "normoffset": ("NormOffset", ""),
    "noffset": ("", "another name of `normoffset`"),
    "concat": ("Concat", "along any axis"),
    "sum": ("Sum", "of any number"),
    "product": ("Times, Mult", "element by element"),
    "Axpy": ("Axpy", "a·x + y"),
    "scale": ("Scale", "by weights or by another layer"),
    "crop": ("Crop", "to the size of another layer"),
    "flatten": ("Flatten", ""),
    "bilinearsampler": ("BilinearSampler", ""),
    "affinegrid": ("AffineGridGenerator", ""),
    "layerVLAD": ("", "NetVLAD's own"),
    "layerVLADv2": ("", "NetVLAD's own"),
    "layerWholeL2Normalize": ("", "NetVLAD's own"),
    "layerTotalMaxPool": ("", "NetVLAD's own"),
    "layerTotalAvgPool": ("", "NetVLAD's own"),
}


def markdown() -> str:
    """The table as it stands in docs/matconvnet.md."""
    rows = (
        f"| `{kind}` | {f'`{dagnn}`' if dagnn else ''} | {words} |"
        for kind, (dagnn, words) in SUPPORTED.items()
    )
    return "\n".join(["| SimpleNN | DagNN | |", "|---|---|---|", *rows])
