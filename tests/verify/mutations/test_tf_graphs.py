"""Faults in the graph of a TensorFlow 1 checkpoint, whose weights are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

Step = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """`graph`: layer -> what stands there; the rest as in the other tables."""

    name: str
    layer: str
    cause: str
    graph: Mapping[str, Step]
    tensor: str = ""


def l2(name: str, epsilon: float) -> Step:
    return lambda x: tf.nn.l2_normalize(x, -1, epsilon, name=name)


def divided(x: Any, epsilon: float, name: str) -> Any:
    return tf.divide(x, tf.sqrt(tf.reduce_sum(x**2, -1, keepdims=True) + epsilon), name=name)


def d_fastest(x: Any) -> Any:
    """Without the transposition."""
    return divided(tf.reshape(x, [-1, x.shape[1] * x.shape[2]]), 1e-12, "truediv_1")


def average(x: Any) -> Any:
    return tf.nn.avg_pool2d(x, 2, 2, "VALID", name="max_pooling2d_1/MaxPool")


def same(x: Any) -> Any:
    return tf.nn.max_pool2d(x, 2, 2, "SAME", name="max_pooling2d_2/MaxPool")


def relu_first(x: Any) -> Any:
    """A pool that stands behind the relu; the relu's place is passed on."""
    return tf.nn.max_pool2d(tf.nn.relu(x, name="Relu"), 2, 2, "VALID", name="max_pooling2d/MaxPool")


FAULTS = [
    Fault("epsilon 1e-6", "preL2", "an epsilon", {"preL2": l2("l2_normalize", 1e-6)}),
    Fault("epsilon 1e-8", "finalL2", "an epsilon", {"finalL2": l2("l2_normalize_1", 1e-8)}),
    Fault(
        "epsilon 1e-6",
        "vlad:intranorm",
        "an epsilon of 1e-06 in place of 1e-12",
        {"vlad:intranorm": lambda x: divided(x, 1e-6, "truediv")},
    ),
    Fault("vector by D fastest", "postL2", "D fastest", {"postL2": d_fastest}),
    Fault("a pool of averages", "pool2", "the average in place of the maximum", {"pool2": average}),
    Fault("windows beyond the end", "pool3", "ceil_mode", {"pool3": same}),
    Fault(
        "a leak",
        "relu4_1",
        "a leak of 0.2",
        {"relu4_1": lambda x: tf.nn.leaky_relu(x, 0.2, name="conv4_1/Relu")},
    ),
    Fault(
        "a relu that does nothing",
        "relu3_1",
        "passed on as it is",
        {"relu3_1": lambda x: tf.identity(x, name="conv3_1/Relu")},
    ),
    Fault(
        "values cut off",
        "relu2_1",
        "values cut off at 0.5",
        {"relu2_1": lambda x: tf.clip_by_value(x, 0, 0.5, name="conv2_1/Relu")},
    ),
    Fault(
        "pool after relu",
        "pool1",
        "the order: relu1_2 runs before pool1",
        {"pool1": relu_first, "relu1_2": lambda x: x},
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.layer}-{fault.name}")
def test_a_fault_in_the_graph_is_caught_and_charged(
    fault: Fault, maker: Any, judged: Callable[..., Any], charge: Callable[..., None]
) -> None:
    path = replace(maker, graph=fault.graph).make("tf_graph")
    charge(fault, "tf_graph", judged(path))


def test_a_relu_that_the_next_layer_does_not_read(
    maker: Any, judged: Callable[..., Any], charge: Callable[..., None]
) -> None:
    def bypassed(x: Any) -> Any:
        tf.nn.relu(x, name="conv5_1/Relu")
        return x

    fault = Fault(
        "relu bypassed", "conv5_2", "reads conv5_1, in the source relu5_1", {"relu5_1": bypassed}
    )
    path = replace(maker, graph=fault.graph).make("tf_graph")
    charge(fault, "tf_graph", judged(path))
