"""netvlad_tf_open's graph and variables (uzh-rpg/netvlad_tf_open, python/netvlad_tf/nets.py).

VGG-16 and NetVLAD as TensorFlow 1's own layers number them. A relu that follows its convolution
is the convolution's activation; one that follows a pool is an operation of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from verify.names.canonical import Place

__all__ = ["CLAMPED", "SCOPE", "VALUES", "VARIABLES"]

SCOPE = "vgg16_netvlad_pca"

#: What a reader of a comparison must know of the graph.
CLAMPED = (
    "preL2 and finalL2 are tf.nn.l2_normalize, x / sqrt(max(sum, 1e-12)), where MatConvNet has "
    "x / sqrt(sum + 1e-12), and postL2 has 1e-12 under the root, where MatConvNet adds it to the "
    "root: they differ on vectors with a norm below about 1e-3"
)

_CONVOLUTIONS = (
    *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
    *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3"),
)

#: Canonical layer -> tensor.
VALUES: Mapping[str, Place] = {
    "input": Place(f"{SCOPE}/sub:0"),
    **{name: Place(f"{SCOPE}/{name}/BiasAdd:0") for name in _CONVOLUTIONS},
    "relu1_1": Place(f"{SCOPE}/conv1_1/Relu:0"),
    "pool1": Place(f"{SCOPE}/max_pooling2d/MaxPool:0"),
    "relu1_2": Place(f"{SCOPE}/Relu:0"),
    "relu2_1": Place(f"{SCOPE}/conv2_1/Relu:0"),
    "pool2": Place(f"{SCOPE}/max_pooling2d_1/MaxPool:0"),
    "relu2_2": Place(f"{SCOPE}/Relu_1:0"),
    "relu3_1": Place(f"{SCOPE}/conv3_1/Relu:0"),
    "relu3_2": Place(f"{SCOPE}/conv3_2/Relu:0"),
    "pool3": Place(f"{SCOPE}/max_pooling2d_2/MaxPool:0"),
    "relu3_3": Place(f"{SCOPE}/Relu_2:0"),
    "relu4_1": Place(f"{SCOPE}/conv4_1/Relu:0"),
    "relu4_2": Place(f"{SCOPE}/conv4_2/Relu:0"),
    "pool4": Place(f"{SCOPE}/max_pooling2d_3/MaxPool:0"),
    "relu4_3": Place(f"{SCOPE}/Relu_3:0"),
    "relu5_1": Place(f"{SCOPE}/conv5_1/Relu:0"),
    "relu5_2": Place(f"{SCOPE}/conv5_2/Relu:0"),
    "preL2": Place(f"{SCOPE}/l2_normalize:0"),
    "vlad:core": Place(f"{SCOPE}/transpose:0", "NKD"),
    "vlad:intranorm": Place(f"{SCOPE}/truediv:0", "NKD"),
    "postL2": Place(f"{SCOPE}/truediv_1:0"),
    "WPCA": Place(f"{SCOPE}/flatten_1/Reshape:0"),
    "finalL2": Place(f"{SCOPE}/l2_normalize_1:0"),
}

#: Canonical weight -> variable. The centres are MatConvNet's, that is negated.
VARIABLES: Mapping[str, Place] = {
    "input/mean": Place(f"{SCOPE}/average_rgb", "C"),
    **{f"{name}/kernel": Place(f"{SCOPE}/{name}/kernel", "HWIO") for name in _CONVOLUTIONS},
    **{f"{name}/bias": Place(f"{SCOPE}/{name}/bias", "O") for name in _CONVOLUTIONS},
    "vlad:core/assignment": Place(f"{SCOPE}/assignment/kernel", "11DK"),
    "vlad:core/centers": Place(f"{SCOPE}/cluster_centers", "111DK", sign=-1),
    "WPCA/kernel": Place(f"{SCOPE}/WPCA/kernel", "11IO"),
    "WPCA/bias": Place(f"{SCOPE}/WPCA/bias", "O"),
}
