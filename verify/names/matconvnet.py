"""MatConvNet's weights: what stands at which place of a layer's `weights`, and how it lies."""

from __future__ import annotations

from collections.abc import Mapping

from verify.names.canonical import Place

__all__ = ["MERGED", "MOMENTS", "NAMED", "SUBTRACTED", "WEIGHTS"]

#: The two columns of a batch norm's moments; the second is no variance (vl_nnbnorm.m).
MOMENTS = ("mean", "sigma")

#: Layer's kind -> its weights in order; `tensor` is the weight's canonical name
#: within the layer. NetVLAD's layers hold minus the centres (Relja/netvlad, layerVLAD.m).
WEIGHTS: Mapping[str, tuple[Place, ...]] = {
    **dict.fromkeys(("conv", "convt"), (Place("kernel", "HWIO"), Place("bias", "O"))),
    "bnorm": (Place("multiplier"), Place("offset"), Place("moments")),
    "scale": (Place("multiplier"), Place("bias")),
    "layerVLAD": (Place("assignment", "11DK"), Place("centers", "11DK", sign=-1)),
    "layerVLADv2": (
        Place("assignment", "11DK"),
        Place("bias", "K"),
        Place("centers", "11DK", sign=-1),
    ),
}

#: A convolution with the batch norm behind it as one layer, and a mean that the net subtracts:
#: kinds that no file has, for what a conversion declares.
MERGED: Mapping[str, str] = {"conv": "conv+bnorm", "convt": "convt+bnorm"}
SUBTRACTED = "subtract"

#: A NetVLAD's layer that goes by its name.
NAMED: Mapping[str, tuple[Place, ...]] = {"WPCA": (Place("kernel", "11IO"), Place("bias", "O"))}
