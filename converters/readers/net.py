"""What the parsers of both kinds of MatConvNet nets make, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from converters.checkpoint import Array, Layer

__all__ = ["MEND", "Net", "is_loss"]

#: What the owner of refused layers can do.
MEND = (
    "Mend these layers in MATLAB and save the net again; if the file may be damaged, "
    "fetch it again first."
)
_LOSSES = ("error", "accuracy", "metric", "pdist")


@dataclass(slots=True)
class Net:
    """The layers in the order of execution, their tensors by name, and what was changed."""

    layers: list[Layer] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_loss(kind: str) -> bool:
    """Whether a layer's type or class says that it only measures what others compute.

    MatConvNet's own are loss, softmaxloss, pdist, dagnn.Loss and dagnn.PDist;
    people's own classes have "loss" in their names, or measure an error.
    """
    name = kind.lower()
    return "loss" in name or name.endswith(_LOSSES)
