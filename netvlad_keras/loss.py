"""The weakly supervised triplet ranking loss, for any Keras model that makes descriptors.

A batch holds the images of several tuples, each a query, one positive and some negatives.
What an image is stands in the targets: [M, 2], the number of its tuple and its role
(`QUERY`, `POSITIVE`, `NEGATIVE`). `netvlad_keras.tuples` makes such batches.
(Arandjelović et al., CVPR 2016, eq. 7; NetVLAD's trainWeakly.m.)
"""

# mypy: allow-subclassing-any, allow-untyped-decorators

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["NEGATIVE", "POSITIVE", "QUERY", "TripletCount", "TripletLoss", "hinges"]

QUERY, POSITIVE, NEGATIVE = 0, 1, 2

_register = keras.saving.register_keras_serializable(package="netvlad_keras")


def hinges(roles: Any, descriptors: Any, margin: float) -> Any:
    """[M]: d²(q, p) + margin − d²(q, n) for each negative that violates it, 0 for all others.

    `roles` [M, 2] and `descriptors` [M, D] are the backend's tensors; d² is the squared L2
    distance. Each tuple has one query and one positive, in any order.
    """
    number, role = roles[:, 0], roles[:, 1]
    same = ops.equal(ops.expand_dims(number, 1), ops.expand_dims(number, 0))

    def of_tuple(values: Any, which: int) -> Any:
        """What the tuple's query, or its positive, has, for each image of the tuple."""
        found = ops.logical_and(same, ops.expand_dims(ops.equal(role, which), 0))
        return ops.take(values, ops.argmax(ops.cast(found, "int32"), axis=1), axis=0)

    squares = ops.sum(ops.square(of_tuple(descriptors, QUERY) - descriptors), axis=1)
    slack = ops.relu(of_tuple(squares, POSITIVE) + margin - squares)
    return ops.where(ops.equal(role, NEGATIVE), slack, ops.zeros_like(slack))


@_register
class TripletLoss(keras.losses.Loss):
    """The sum of all hinges, divided by how many negatives violate the margin.

    Not by the size of the batch: that is how the original normalises its step. `dtype` is
    float32 unless it is given, whatever the policy of the model is.
    """

    def __init__(self, margin: float = 0.1, name: str = "triplet_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        violations = hinges(y_true, y_pred, self.margin)
        active = ops.sum(ops.cast(ops.greater(violations, 0), violations.dtype))
        return ops.sum(violations) / ops.maximum(ops.stop_gradient(active), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


@_register
class TripletCount(keras.metrics.Metric):
    """Over all batches: `active_triplets`, negatives that violate the margin, and
    `summed_loss`, the sum of their hinges."""

    def __init__(self, margin: float = 0.1, name: str = "triplets", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = margin
        self.active = self.add_weight(name="active", initializer="zeros")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        roles, descriptors = (ops.cast(tensor, self.dtype) for tensor in (y_true, y_pred))
        violations = hinges(roles, descriptors, self.margin)
        self.active.assign_add(ops.sum(ops.cast(ops.greater(violations, 0), self.dtype)))
        self.total.assign_add(ops.sum(violations))

    def result(self) -> dict[str, Any]:
        return {"active_triplets": self.active.value, "summed_loss": self.total.value}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}
