"""`NetVLADModel`: a functional Keras model with one layer per source layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from netvlad_keras import layers, weights
from netvlad_keras.errors import ImageShapeError, WeightsError
from netvlad_keras.spec import NetVLADSpec, keras_name, source_name
from netvlad_keras.trunks import Row

__all__ = ["ImageShapeError", "NetVLADModel"]


@keras.saving.register_keras_serializable(package="netvlad_keras")
class NetVLADModel(keras.Model):
    """NetVLAD: images to descriptors of unit length.

    Input: [batch, height, width, 3], RGB, 0 to 255, float32 or uint8, any
    height and width from `spec.minimum_size`. Output: [batch,
    `spec.dimension`]. The mean is subtracted inside. Layers carry the source's
    names (`keras_name` of them), so `model.get_layer("conv5_3")` is what the
    paper calls conv5_3.

    `spec` is a `NetVLADSpec`, a published name, or nothing for VGG-16 with
    whitening trained on Pitts30k. `zeros` builds it with zeros for weights,
    for a caller who is about to assign every one of them; the default
    initialisers give a net that can be trained. Raises `ImageShapeError` when
    called with anything else than images.
    """

    def __init__(
        self, spec: NetVLADSpec | str | None = None, *, zeros: bool = False, **kwargs: Any
    ) -> None:
        if not isinstance(spec, NetVLADSpec):
            spec = NetVLADSpec.from_name(spec) if spec else NetVLADSpec()
        inputs = keras.Input((None, None, 3), name="image", dtype="float32")
        tensor = inputs
        for layer in _layers(spec, zeros):
            tensor = layer(tensor)
        kwargs.setdefault("name", "netvlad")
        super().__init__(inputs=inputs, outputs=tensor, **kwargs)
        self._spec = spec

    @property
    def spec(self) -> NetVLADSpec:
        """Which NetVLAD this is."""
        return self._spec

    @property
    def canonical_weights(self) -> dict[str, Any]:
        """Every weight by its canonical name, `conv1_1/kernel` or `vlad:core/centers`."""
        return {
            f"{source_name(layer.name)}/{variable.name}": variable
            for layer in self.layers
            for variable in layer.weights
        }

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
        with weights.opened(filepath) as file:
            if file.spec:
                self._refuse_other(file.spec)
            own = {name: self.canonical_weights[name] for name in file.lacks}
            self.assign(weights.values({**own, **file.entries}, self._spec.weight_shapes))

    def _refuse_other(self, spec: NetVLADSpec) -> None:
        """Weights of the same shapes can belong to another net; a mean is among them."""
        names = [field.name for field in fields(spec) if field.name not in ("mean", "name")]
        differ = [name for name in names if getattr(spec, name) != getattr(self._spec, name)]
        if differ and spec.weight_shapes == self._spec.weight_shapes:
            raise WeightsError(
                f"weights of another net, which differs in {', '.join(differ)}: build its own "
                f"model, NetVLADModel(spec), or open the file with keras.saving.load_model"
            )

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: the model is built when it is made."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._check(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Descriptors of a batch as a NumPy array, [batch, `spec.dimension`]."""
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
            self._check(batch[0] if isinstance(batch, tuple) and batch else batch)
        return data

    def _check(self, images: Any) -> None:
        minimum = self._spec.minimum_size
        for tensor in keras.tree.flatten(images):
            shape = getattr(tensor, "shape", None)
            if shape is None or getattr(shape, "rank", 0) is None:  # unknown; Keras has a say
                continue
            is_image = len(shape) == 4 and shape[-1] in (3, None)
            if not is_image or any(size is not None and size < minimum for size in shape[1:3]):
                raise ImageShapeError(tuple(shape), minimum)

    def get_config(self) -> dict[str, Any]:
        return {
            "spec": self._spec.to_dict(),
            "name": self.name,
            "trainable": self.trainable,
            "frozen": [layer.name for layer in self.layers if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> NetVLADModel:
        config = dict(config)
        frozen = config.pop("frozen", ())
        model = cls(NetVLADSpec.from_dict(config.pop("spec")), **config)
        for layer in model.layers:
            layer.trainable = layer.name not in frozen
        return model


# A model subclass in the .h5 format is looked up by its bare class name.
keras.saving.get_custom_objects()["NetVLADModel"] = NetVLADModel


def _layers(spec: NetVLADSpec, zeros: bool) -> list[Any]:
    """Every layer in order, the mean's subtraction first under the name `input`."""
    rows = {row.name: row for row in spec.trunk}
    start = _ZEROS if zeros else _TRAINABLE
    built = [layers.MeanSubtraction(spec.mean, name="input")]
    for name, kind in spec.layers:
        layer = _ROWS[kind](rows[name], start) if name in rows else _HEAD[name](spec, start)
        built.append(layer)
    return built


#: Initialisers: he_normal keeps the scale through a deep trunk of relus.
_TRAINABLE = {"conv": "he_normal", "head": "glorot_uniform"}
_ZEROS = {"conv": "zeros", "head": "zeros"}


def _convolution(row: Row, start: dict[str, str]) -> Any:
    return layers.Convolution(
        row.width,
        row.kernel,
        row.pads,
        strides=row.stride,
        groups=row.groups,
        kernel_initializer=start["conv"],
        name=row.name,
    )


#: A trunk's row, by its kind.
_ROWS: dict[str, Callable[[Row, dict[str, str]], Any]] = {
    "conv": _convolution,
    "pool": lambda row, _: layers.MaxPooling(row.kernel, row.stride, row.pads, name=row.name),
    "relu": lambda row, _: keras.layers.ReLU(name=row.name),
    "normalize": lambda row, _: layers.CrossChannelNormalization(
        int(row.lrn[0]), *row.lrn[1:], name=row.name
    ),
}

#: A layer after the trunk, by its name.
_HEAD: dict[str, Callable[[NetVLADSpec, dict[str, str]], Any]] = {
    "preL2": lambda spec, _: layers.L2Normalization(name="preL2"),
    "vlad:core": lambda spec, start: layers.NetVLAD(
        spec.clusters,
        use_bias=spec.pooling == "vladv2",
        initializer=start["head"],
        name=keras_name("vlad:core"),
    ),
    "max:core": lambda spec, _: layers.TotalPooling("max", name=keras_name("max:core")),
    "avg:core": lambda spec, _: layers.TotalPooling("avg", name=keras_name("avg:core")),
    "vlad:intranorm": lambda spec, _: layers.L2Normalization(name=keras_name("vlad:intranorm")),
    "postL2": lambda spec, _: layers.WholeL2Normalization(name="postL2"),
    "WPCA": lambda spec, start: keras.layers.Dense(
        spec.whitening, kernel_initializer=start["head"], name="WPCA"
    ),
    "finalL2": lambda spec, _: layers.WholeL2Normalization(name="finalL2"),
}
