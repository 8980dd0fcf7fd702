"""Which NetVLAD it is of which a file holds the weights alone: names and sizes tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from converters.checkpoint import Array, Checkpoint
from converters.errors import ConversionError
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import VD16

__all__ = ["from_modules", "from_record", "from_variables", "mean_of"]

_TF = "vgg16_netvlad_pca/"


def from_variables(checkpoint: Checkpoint) -> NetVLADSpec:
    """netvlad_tf_open holds VGG-16 with NetVLAD and no layer list; the sizes tell the rest."""
    tensors = {name.removeprefix(_TF): tensor for name, tensor in checkpoint.tensors.items()}
    if "cluster_centers" not in tensors or "assignment/kernel" not in tensors:
        raise ConversionError(
            f"{checkpoint.origin.path}: no {_TF}cluster_centers among its {len(tensors)} variables",
            advice="only checkpoints with netvlad_tf_open's variable names are known",
        )
    widths = {name: tensor.shape[-1] for name, tensor in tensors.items() if tensor.ndim}
    return _sized(
        checkpoint, widths, tensors["assignment/kernel"].shape[-1], tensors.get("average_rgb")
    )


def from_record(checkpoint: Checkpoint) -> NetVLADSpec:
    """Our own files record their spec; the first Keras port is VGG-16 with NetVLAD."""
    if "rows" in checkpoint.preprocessing.get("spec", ()):
        raise ConversionError(
            f"{checkpoint.origin.path}: is another net than a NetVLAD",
            advice="netvlad-convert back writes it as a .mat, which converts",
        )
    if "spec" in checkpoint.preprocessing:
        recorded = NetVLADSpec.from_dict(checkpoint.preprocessing["spec"])
        return replace(recorded, mean=mean_of(checkpoint.tensors.get("input/mean")))
    assignment = checkpoint.tensors.get("vlad:core/assignment")
    if assignment is None:
        raise ConversionError(
            f"{checkpoint.origin.path}: records no spec, and has no vlad:core/assignment",
            advice="give the .keras or .h5 file of the whole model",
        )
    tensors = checkpoint.tensors
    widths = {name: tensor.shape[-1] for name, tensor in tensors.items() if tensor.ndim}
    return _sized(checkpoint, widths, assignment.shape[-1], tensors.get("input/mean"))


def from_modules(checkpoint: Checkpoint) -> NetVLADSpec:
    """hloc's and pytorch-NetVlad's: torchvision numbers VGG-16's convolutions as VD16 does."""
    tensors, names = checkpoint.tensors, _MODULES[checkpoint.origin.format]
    shapes = {name: tensor.shape for name, tensor in tensors.items() if tensor.ndim}
    widths = {
        f"{row.name}/kernel": shapes[f"{names['trunk']}.{place}.weight"][0]
        for place, row in enumerate(VD16)
        if f"{names['trunk']}.{place}.weight" in shapes
    }
    if names["whitening"] in shapes:
        widths["WPCA/kernel"] = shapes[names["whitening"]][0]
    pooling = str(checkpoint.preprocessing.get("pooling", ""))
    clusters = shapes.get(names["assignment"], (0,))[0]
    if clusters:
        pooling = "vladv2" if names["bias"] in tensors else "vlad"
    elif pooling not in ("max", "avg"):
        raise ConversionError(
            f"{checkpoint.origin.path}: no {names['assignment']}, and no metadata on pooling",
            advice='save it with metadata={"pooling": "max", ...}, or "avg"',
        )
    return _sized(checkpoint, widths, clusters, tensors.get("input/mean"), pooling)


_MODULES = {
    "hloc": {
        "trunk": "backbone",
        "assignment": "netvlad.score_proj.weight",
        "bias": "netvlad.score_proj.bias",
        "whitening": "whiten.weight",
    },
    "pytorch_netvlad": {
        "trunk": "encoder",
        "assignment": "pool.conv.weight",
        "bias": "pool.conv.bias",
        "whitening": "WPCA.0.weight",
    },
}


def _sized(
    checkpoint: Checkpoint,
    widths: Mapping[str, int],
    clusters: int,
    mean: Array | None,
    pooling: str = "vlad",
) -> NetVLADSpec:
    """VGG-16 and NetVLAD with as many outputs as these kernels have."""
    absent = [row.name for row in VD16 if row.kind == "conv" and f"{row.name}/kernel" not in widths]
    if absent:
        raise ConversionError(f"{checkpoint.origin.path}: no kernel for {', '.join(absent)}")
    trunk = tuple(
        replace(row, width=widths[f"{row.name}/kernel"]) if row.kind == "conv" else row
        for row in VD16
    )
    is_vlad = clusters > 0
    return NetVLADSpec(
        trunk=trunk,
        pooling=pooling,
        prel2=is_vlad,
        intranorm=is_vlad,
        clusters=clusters,
        whitening=widths.get("WPCA/kernel", 0),
        mean=mean_of(mean),
    )


def mean_of(image: Array | None) -> tuple[float, float, float]:
    """The first pixel of an average image, as NetVLAD takes it."""
    if image is None or image.shape[-1] != 3:
        raise ConversionError(
            "the net has no mean of three colours (meta.normalization.averageImage)",
            advice="NetVLAD's own files have one; this file was cut or is another net",
        )
    red, green, blue = np.reshape(image, (-1, 3))[0]
    return float(red), float(green), float(blue)
