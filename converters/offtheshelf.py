"""NetVLAD on off-the-shelf features: real VGG-16 convolutions, clusters, no training.

The convolutions are torchvision's for ImageNet, the clusters k-means on the
images in the scikit-image and scikit-learn wheels
(data/make_offtheshelf_clusters.py). It is the net with which NetVLAD's
training starts, on other images.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from converters import imagenet_vgg16
from converters.checkpoint import Array, Checkpoint
from converters.compose import clusters, compose
from netvlad_keras.spec import NetVLADSpec

__all__ = ["CLUSTERS", "NAME", "SPEC", "offtheshelf", "trunk"]

NAME = "vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra"
CLUSTERS = Path(__file__).with_name("data") / "offtheshelf_skimage_clusters.npz"

#: torchvision's normalisation of images, RGB from 0 to 1.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)

_RED, _GREEN, _BLUE = (255 * value for value in _MEAN)
SPEC = replace(NetVLADSpec.from_name(NAME), mean=(_RED, _GREEN, _BLUE))


def offtheshelf(tarball: Path) -> Checkpoint:
    """The whole net, from the distribution that `imagenet_vgg16.download` fetches.

    Raises `SourceError` for any other file.
    """
    with np.load(CLUSTERS, allow_pickle=False) as stored:
        head = clusters("vlad", stored["centers"], float(stored["alpha"]))
    return compose(SPEC, trunk(tarball) | head)


def trunk(tarball: Path) -> dict[str, Array]:
    """The convolutions for RGB from 0 to 255 minus `SPEC.mean`.

    w · ((x/255 − m)/s) = (w / 255s) · (x − 255m): the deviation goes into
    conv1_1, in float64, rounded once. Padding is zero on both sides of it.
    """
    tensors = imagenet_vgg16.read(tarball)
    scale = 255 * np.asarray(_DEVIATION)[:, np.newaxis]
    folded = tensors["conv1_1/weights/0"].astype(np.float64) / scale
    return tensors | {"conv1_1/weights/0": folded.astype(np.float32)}
