"""The original's gradient descent (NetVLAD's trainWeakly.m), and which layers it moves."""

# mypy: allow-subclassing-any, allow-untyped-decorators

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from netvlad_keras.errors import TrainingError

__all__ = ["MomentumDescent", "freeze"]


@keras.saving.register_keras_serializable(package="netvlad_keras")
class MomentumDescent(keras.optimizers.Optimizer):
    """v ← momentum·v − decay·w − g, w ← w + rate·v: MatConvNet's descent.

    Other than in Keras's SGD the rate stands outside of the velocity, so that a change of it
    counts at once, and the decay goes through the velocity. Where no triplet is active, all
    gradients are zero and nothing moves: the original takes no step then.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        decay: float = 1e-3,
        name: str = "momentum_descent",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.decay = decay

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        moved = [ops.any(ops.not_equal(g, 0)) for g in grads if g is not None]
        self._is_step = ops.any(ops.stack(moved)) if moved else False
        return super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        velocity = self.velocities[self._get_variable_index(variable)]
        pull = ops.cast(gradient, variable.dtype) + self.decay * variable
        after = ops.where(self._is_step, self.momentum * velocity - pull, velocity)
        self.assign(velocity, after)
        rate = ops.cast(learning_rate, variable.dtype) * ops.cast(self._is_step, variable.dtype)
        self.assign_add(variable, rate * after)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "decay": self.decay}


def freeze(model: keras.Model, train_from: str | None) -> None:
    """Leave alone what stands before the layer `train_from`; `None`: train all layers.

    Call it before `compile`. Raises `TrainingError` if there is no such layer.
    """
    names = [layer.name for layer in model.layers]
    if train_from is not None and train_from not in names:
        raise TrainingError(
            f"the model has no layer {train_from!r} to train from: {', '.join(names)}"
        )
    first = 0 if train_from is None else names.index(train_from)
    for number, layer in enumerate(model.layers):
        layer.trainable = number >= first
