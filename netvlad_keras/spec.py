"""`NetVLADSpec`: which NetVLAD a model is, as frozen data. No Keras here."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from netvlad_keras.trunks import TRUNKS, VD16, Row, Trunk, minimum_size, until

__all__ = ["IMAGENET_MEAN", "NetVLADSpec", "canonical_name", "keras_name", "source_name"]

#: Mean RGB of ImageNet as MatConvNet's VGG nets hold it, on the scale 0 to 255.
IMAGENET_MEAN = (123.68, 116.779, 103.939)

_NAME = re.compile(
    r"(?P<net>[A-Za-z0-9]+)_(?P<trainset>[A-Za-z0-9-]+)_(?P<layer>conv[0-9]+(?:_[0-9]+)?)"
    r"(?:_(?P<clusterset>[A-Za-z0-9-]+)_train)?"
    r"_(?P<pooling>max|avg|vladv2|vlad)(?P<prel2>_preL2)?(?P<intra>_intra)?(?P<white>_white)?"
)
_GRAMMAR = (
    "{netID}_{trainset}_{layer}[_{clusterset}_train]_{max|avg|vlad|vladv2}[_preL2][_intra][_white]"
)


@dataclass(frozen=True, slots=True)
class NetVLADSpec:
    """A trunk, a pooling, and what follows it (Arandjelović et al., CVPR 2016).

    trunk       convolutional layers, images N×H×W×3 to features N×h×w×D.
    pooling     `vlad`, `vladv2` (assignment with a bias), `max` or `avg`.
    prel2       features are L2-normalised before the pooling.
    intranorm   the K residual sums are L2-normalised one by one.
    clusters    K; 0 for `max` and `avg`.
    whitening   outputs of the whitening (`WPCA`, `finalL2`); 0: none.
    mean        RGB that is subtracted from the image, on the scale 0 to 255.
    name        the published name, `""` if there is none.
    """

    trunk: Trunk = VD16
    pooling: str = "vlad"
    prel2: bool = True
    intranorm: bool = True
    clusters: int = 64
    whitening: int = 4096
    mean: tuple[float, float, float] = IMAGENET_MEAN
    name: str = "vd16_pitts30k_conv5_3_vlad_preL2_intra_white"

    def __post_init__(self) -> None:
        if not self.trunk or self.trunk[-1].kind != "conv":
            raise ValueError("a NetVLAD trunk must end with a convolution")
        if self.pooling not in ("vlad", "vladv2", "max", "avg"):
            raise ValueError(f"unknown pooling {self.pooling!r}: vlad, vladv2, max or avg")
        if self.is_vlad != (self.clusters > 0):
            raise ValueError(f"{self.pooling} with {self.clusters} clusters")
        if self.intranorm and not self.is_vlad:
            raise ValueError(f"{self.pooling} pooling has no intra-normalisation")
        names = ["input", *(name for name, _ in self.layers)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two layers of one name: {', '.join(twice)}")

    @classmethod
    def from_name(cls, name: str) -> NetVLADSpec:
        """Parse a published name, such as `caffe_tokyoTM_conv5_vlad_preL2_intra_white`.

        The mean is ImageNet's; a weights file brings its own. Raises
        `ValueError` for a name outside the grammar or an unknown netID.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not a NetVLAD name: {_GRAMMAR}")
        if match["net"] not in TRUNKS:
            raise ValueError(f"unknown netID {match['net']!r} in {name!r}: {', '.join(TRUNKS)}")
        vlad = match["pooling"].startswith("vlad")
        return cls(
            trunk=until(TRUNKS[match["net"]], match["layer"]),
            pooling=match["pooling"],
            prel2=match["prel2"] is not None,
            intranorm=match["intra"] is not None,
            clusters=64 if vlad else 0,
            whitening=4096 if match["white"] else 0,
            name=name,
        )

    @property
    def is_vlad(self) -> bool:
        """Whether the pooling is NetVLAD rather than a maximum or a mean."""
        return self.pooling in ("vlad", "vladv2")

    @property
    def feature_width(self) -> int:
        """D, the channels of the trunk's output."""
        return self.trunk[-1].width

    @property
    def dimension(self) -> int:
        """Length of the descriptor."""
        return self.whitening or self.feature_width * max(self.clusters, 1)

    @property
    def minimum_size(self) -> int:
        """Smallest height and width of an image in pixels."""
        return minimum_size(self.trunk)

    @property
    def inputs(self) -> tuple[tuple[str, int], ...]:
        """(name, channels) of the net's one input."""
        return (("image", 3),)

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """(layer, name) of the net's one output."""
        return ((self.layers[-1][0], "descriptor"),)

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """(name, kind) of every layer in the source's order, the kinds MatConvNet's."""
        core = {
            "vlad": ("vlad:core", "layerVLAD"),
            "vladv2": ("vlad:core", "layerVLADv2"),
            "max": ("max:core", "layerTotalMaxPool"),
            "avg": ("avg:core", "layerTotalAvgPool"),
        }
        head = [core[self.pooling]]
        if self.prel2:
            head.insert(0, ("preL2", "normalize"))
        if self.intranorm:
            head.append(("vlad:intranorm", "normalize"))
        head.append(("postL2", "layerWholeL2Normalize"))
        if self.whitening:
            head += [("WPCA", "conv"), ("finalL2", "layerWholeL2Normalize")]
        return (*((row.name, row.kind) for row in self.trunk), *head)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight of the model by its canonical name."""
        shapes: dict[str, tuple[int, ...]] = {"input/mean": (3,)}
        channels = 3
        for row in self.trunk:
            if row.kind == "conv":
                shapes[f"{row.name}/kernel"] = (*row.kernel, channels // row.groups, row.width)
                shapes[f"{row.name}/bias"] = (row.width,)
                channels = row.width
        if self.is_vlad:
            shapes["vlad:core/assignment"] = (channels, self.clusters)
            if self.pooling == "vladv2":
                shapes["vlad:core/bias"] = (self.clusters,)
            shapes["vlad:core/centers"] = (channels, self.clusters)
        if self.whitening:
            shapes["WPCA/kernel"] = (channels * max(self.clusters, 1), self.whitening)
            shapes["WPCA/bias"] = (self.whitening,)
        return shapes

    def cropped(self, dimension: int) -> NetVLADSpec:
        """The net that keeps the first `dimension` outputs of the whitening.

        Raises `ValueError` without whitening: other descriptors have no order
        in which a part of them stands for the whole.
        """
        if not self.whitening:
            raise ValueError("only a net with whitening (…_white) can be cropped")
        if not 1 <= dimension <= self.whitening:
            raise ValueError(f"cannot keep {dimension} of {self.whitening} dimensions")
        return replace(self, whitening=dimension)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NetVLADSpec:
        """The spec that `to_dict` wrote, from Python or from JSON."""
        rows = (_row(row) for row in data["trunk"])
        red, green, blue = data["mean"]
        return cls(**{**data, "trunk": tuple(rows), "mean": (red, green, blue)})


def _row(data: dict[str, Any]) -> Row:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Row(**values)


def keras_name(name: str) -> str:
    """A source's layer name as Keras and TensorFlow allow it: `vlad.3Acore`.

    Each byte (UTF-8) outside [A-Za-z0-9_-] is a dot and two hex digits; so is
    a `_` or `-` in the first place, where TensorFlow takes neither.
    """
    return re.sub(
        r"^[_-]|[^A-Za-z0-9_-]",
        lambda match: "".join(f".{byte:02X}" for byte in match[0].encode()),
        name,
    )


def source_name(name: str) -> str:
    """The source's layer name that `keras_name` wrote."""
    return re.sub(
        r"(?:\.[0-9A-F]{2})+",
        lambda match: bytes.fromhex(match[0].replace(".", "")).decode(errors="replace"),
        name,
    )


def canonical_name(layer: str, weight: str) -> str:
    """A weight's canonical name, from the names of its Keras layer and its variable.

    A layer that subtracts an input's mean is called after the input, with
    `.mean` behind it, which `keras_name` writes for no layer of a source.
    """
    owner = layer.removesuffix(".mean") if weight == "mean" else layer
    return f"{source_name(owner)}/{weight}"
