"""`NetVLADModel`: a functional Keras model with one layer per source layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from netvlad_keras import layers, weights
from netvlad_keras.spec import NetVLADSpec, keras_name, source_name
from netvlad_keras.trunks import Row

__all__ = ["ImageShapeError", "NetVLADModel"]


class ImageShapeError(ValueError):
    """An image batch of the wrong rank, size or number of channels."""

    def __init__(self, shape: tuple[Any, ...], minimum: int) -> None:
        self.shape = shape
        self.minimum = minimum
        super().__init__(
            f"expected images as [batch, height, width, 3], RGB from 0 to 255, of at least "
            f"{minimum}×{minimum} pixels; got shape {list(shape)}"
        )


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
        """Assign all weights by canonical name.

        Raises `WeightsError` with every missing, unexpected and misshapen
        entry before anything changes.
        """
        targets = self.canonical_weights
        weights.check(arrays, {name: tuple(v.shape) for name, v in targets.items()})
        for name, variable in targets.items():
            variable.assign(np.asarray(arrays[name], dtype="float32"))  # one at a time in memory

    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Load a `.h5`, `.weights.h5` or `.keras` file of this project, or the
        `netvlad_weights.h5` of the first Keras port (Keras 2.2).

        The last holds no mean; the model's own stays. Raises `WeightsError`
        for any other file, before a variable changes.
        """
        if kwargs:
            raise TypeError(f"load_weights takes a path alone, not {', '.join(kwargs)}")
        with weights.opened(filepath) as file:
            own = {name: self.canonical_weights[name] for name in file.lacks}
            self.assign({**own, **file.entries})

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: the model is built when it is made."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._check(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Descriptors of a batch as a NumPy array, [batch, `spec.dimension`]."""
        self._check(x)
        return super().predict(x, *args, **kwargs)

    def _check(self, images: Any) -> None:
        shape = getattr(images, "shape", None)
        if shape is None:  # a dataset; its batches come through __call__
            return
        minimum = self._spec.minimum_size
        is_image = len(shape) == 4 and shape[-1] in (3, None)
        if not is_image or any(size is not None and size < minimum for size in shape[1:3]):
            raise ImageShapeError(tuple(shape), minimum)

    def get_config(self) -> dict[str, Any]:
        return {"spec": self._spec.to_dict(), "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> NetVLADModel:
        config = dict(config)
        return cls(NetVLADSpec.from_dict(config.pop("spec")), **config)


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
