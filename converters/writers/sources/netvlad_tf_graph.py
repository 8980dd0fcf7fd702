"""The graph of netvlad_tf_open's `nets.py` (uzh-rpg/netvlad_tf_open, python/netvlad_tf).

TensorFlow 1's `tf.layers` is gone; its operations are laid out here under the
names that it gave them, on which programs that fetch values rely.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

__all__ = ["SCOPE", "meta_graph"]

SCOPE = "vgg16_netvlad_pca"

tf1 = tf.compat.v1

#: Convolutions of each block; the last one's relu stands behind the pool.
_BLOCKS = (2, 2, 3, 3, 3)


def meta_graph(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """A `.meta` file: the graph whose variables (name -> shape) these are, and its Saver.

    Without `WPCA/kernel` among them the graph ends with NetVLAD.
    """
    with tf.Graph().as_default() as graph:
        images = tf1.placeholder(tf.float32, [None, None, None, 3])
        with tf1.variable_scope(SCOPE):
            _net(images, {name.removeprefix(f"{SCOPE}/"): shape for name, shape in shapes.items()})
        saver = tf1.train.Saver(tf1.global_variables())
        meta = tf1.train.export_meta_graph(graph=graph, saver_def=saver.as_saver_def())
    content: bytes = meta.SerializeToString(deterministic=True)
    return content


def _net(images: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    x = images - _variable("average_rgb", shapes)
    for block, depth in enumerate(_BLOCKS, start=1):
        for number in range(1, depth + 1):
            x = _convolution(x, f"conv{block}_{number}", shapes)
            if number < depth:
                x = tf.nn.relu(x, name=f"conv{block}_{number}/Relu")
        if block < len(_BLOCKS):
            pool = "max_pooling2d" + (f"_{block - 1}" if block > 1 else "")
            x = tf.nn.relu(tf.nn.max_pool2d(x, 2, 2, "VALID", name=f"{pool}/MaxPool"))
    x = _netvlad(tf.nn.l2_normalize(x, axis=-1), shapes)
    if "WPCA/kernel" in shapes:
        x = _convolution(x[:, tf.newaxis, tf.newaxis], "WPCA", shapes, "VALID")
        width = shapes["WPCA/kernel"][-1]
        x = tf.reshape(x, [-1, width], name="flatten_1/Reshape")
        tf.nn.l2_normalize(x, axis=-1)


def _netvlad(x: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Residuals x + C, for the centres are stored negated; the vector runs d·K + k."""
    *_, width, clusters = shapes["cluster_centers"]
    scores = tf.nn.conv2d(x, _variable("assignment/kernel", shapes), 1, "SAME",
                          name="assignment/Conv2D")  # fmt: skip
    assigned = tf.expand_dims(tf.nn.softmax(scores), -2)
    residuals = tf.expand_dims(x, -1) + _variable("cluster_centers", shapes)
    sums = tf.transpose(tf.reduce_sum(assigned * residuals, axis=[1, 2]), [0, 2, 1])
    turned = tf.transpose(_normalized(sums), [0, 2, 1])
    return _normalized(tf.reshape(turned, [-1, width * clusters], name="flatten/Reshape"))


def _normalized(x: Any) -> Any:
    """MatConvNet's form of it; named `truediv` and `truediv_1`."""
    return x / tf.sqrt(tf.reduce_sum(x**2, axis=-1, keepdims=True) + 1e-12)


def _convolution(
    x: Any, name: str, shapes: Mapping[str, tuple[int, ...]], padding: str = "SAME"
) -> Any:
    kernel, bias = _variable(f"{name}/kernel", shapes), _variable(f"{name}/bias", shapes)
    x = tf.nn.conv2d(x, kernel, 1, padding, name=f"{name}/Conv2D")
    return tf.nn.bias_add(x, bias, name=f"{name}/BiasAdd")


def _variable(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    return tf1.get_variable(
        name, shapes[name], tf.float32, tf1.zeros_initializer(), use_resource=False
    )
