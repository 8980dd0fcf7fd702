"""What the two models share: inputs that are looked at first, and weights by canonical name."""

# mypy: allow-subclassing-any

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from netvlad_keras import weights
from netvlad_keras.errors import WeightsError
from netvlad_keras.net import NetSpec
from netvlad_keras.spec import NetVLADSpec, canonical_name

__all__ = ["CheckedModel"]


class CheckedModel(keras.Model):
    """A functional Keras model that is made from a spec alone.

    A subclass says how (`__init__`, which sets `_spec`), and which inputs it
    takes (`_check`).
    """

    _spec: NetVLADSpec | NetSpec

    @property
    def canonical_weights(self) -> dict[str, Any]:
        """Every weight by its canonical name, `conv1_1/kernel` or `vlad:core/centers`."""
        found = {
            canonical_name(layer.name, variable.name): variable
            for layer in self.layers
            for variable in layer.weights
        }
        return {name: found[name] for name in self._spec.weight_shapes}

    def assign(self, arrays: Mapping[str, Any]) -> None:
        """Assign all weights by canonical name, from arrays or from the backend's own tensors.

        Raises `WeightsError` with every missing, unexpected and misshapen
        entry before anything changes.
        """
        targets = self.canonical_weights
        weights.check(arrays, {name: tuple(v.shape) for name, v in targets.items()})
        for name, variable in targets.items():  # one at a time in memory
            array = arrays[name]
            if not keras.ops.is_tensor(array):
                array = np.asarray(array, dtype="float32")
            variable.assign(array)

    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Load a `.h5`, `.weights.h5` or `.keras` file of this project, or the
        `netvlad_weights.h5` of the first Keras port (Keras 2.2).

        Where the last holds no mean, the model's own stays. An optimizer's
        state is left alone: `keras.saving.load_model` brings that back. Raises
        `WeightsError` for any other file and for another net's, before a
        variable changes.
        """
        if kwargs:
            raise TypeError(f"load_weights takes a path alone, not {', '.join(kwargs)}")
        roles = {layer.name: tuple(v.name for v in layer.weights) for layer in self.layers}
        with weights.opened(filepath, roles) as file:
            if file.spec:
                self._refuse_other(file.spec)
            own = {name: self.canonical_weights[name] for name in file.lacks}
            self.assign(weights.values({**own, **file.entries}, self._spec.weight_shapes))

    def _refuse_other(self, spec: NetVLADSpec | NetSpec) -> None:
        """Weights of the same shapes can belong to another net; a mean is among them."""
        names = [field.name for field in fields(spec) if field.name not in ("mean", "name")]
        differ = [name for name in names if _differ(spec, self._spec, name)]
        if differ and spec.weight_shapes == self._spec.weight_shapes:
            raise WeightsError(
                f"weights of another net, which differs in {', '.join(differ)}: build its own "
                f"model, {type(self).__name__}(spec), or open the file with "
                f"keras.saving.load_model"
            )

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: the model is built when it is made."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._check(inputs)
        return super().__call__(self._arranged(inputs), *args, **kwargs)

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Keras's own way in; `stateless_call` takes it too, without a look at the inputs."""
        return super().call(self._arranged(inputs), *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs for a batch, as NumPy arrays."""
        if hasattr(x, "shape") or isinstance(x, Mapping | list | tuple):
            self._check(x)
        return super().predict(x, *args, **kwargs)

    def make_predict_function(self, force: bool = False) -> Any:
        return self._guarded("predict_function", super().make_predict_function, force)

    def make_train_function(self, force: bool = False) -> Any:
        return self._guarded("train_function", super().make_train_function, force)

    def make_test_function(self, force: bool = False) -> Any:
        return self._guarded("test_function", super().make_test_function, force)

    def _guarded(self, name: str, make: Callable[[bool], Any], force: bool) -> Any:
        """Keras's step function behind a look at each batch.

        A traced graph stops seeing sizes once they have varied. It would take
        an image that is too small, and give zeros or NaN for it.
        """
        if force or getattr(self, name) is None:
            make(force)
            step = getattr(self, name)
            setattr(self, name, lambda *args: step(*args[:-1], self._watched(args[-1])))
        return getattr(self, name)

    def _watched(self, data: Any) -> Any:
        """What Keras feeds to a step: batches, a generator of them, a `tf.data` iterator."""
        if isinstance(data, GeneratorType):
            return (self._watched([batch])[0] for batch in data)
        for batch in data if isinstance(data, list) else [getattr(data, "element_spec", ())]:
            # Targets come behind; torch's loaders make lists of what Keras has as tuples.
            inputs = batch[:1] if isinstance(batch, tuple | list) else [batch]
            for given in inputs:
                self._check(given)
        return data

    def _check(self, inputs: Any) -> None:
        """Raise for inputs that the net cannot take."""
        raise NotImplementedError

    def _arranged(self, inputs: Any) -> Any:
        """Inputs as the functional model names them."""
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {
            "spec": self._spec.to_dict(),
            "name": self.name,
            "trainable": self.trainable,
            "frozen": [layer.name for layer in self.layers if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> CheckedModel:
        config = dict(config)
        frozen = config.pop("frozen", ())
        model = cls(cls._spec_from(config.pop("spec")), **config)
        for layer in model.layers:
            layer.trainable = layer.name not in frozen
        return model

    @staticmethod
    def _spec_from(data: dict[str, Any]) -> Any:
        raise NotImplementedError


def known_shape(tensor: Any) -> tuple[Any, ...] | None:
    """The shape of what was given for an input; `None`: unknown, and Keras has a say."""
    shape = getattr(tensor, "shape", None)
    if shape is None or getattr(shape, "rank", 0) is None:
        return None
    return tuple(shape)


def _differ(one: Any, other: Any, name: str) -> bool:
    missing = object()
    return bool(getattr(one, name, missing) != getattr(other, name, missing))
