"""`NetVLADModel`: a functional Keras model with one layer per source layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from netvlad_keras import layers
from netvlad_keras.checked import CheckedModel, known_shape
from netvlad_keras.errors import ImageShapeError
from netvlad_keras.spec import NetVLADSpec, keras_name
from netvlad_keras.trunks import Row

__all__ = ["ImageShapeError", "NetVLADModel"]


@keras.saving.register_keras_serializable(package="netvlad_keras")
class NetVLADModel(CheckedModel):
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

    _spec: NetVLADSpec

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

    def _check(self, inputs: Any) -> None:
        minimum = self._spec.minimum_size
        for tensor in keras.tree.flatten(inputs):
            shape = known_shape(tensor)
            if shape is None:
                continue
            is_image = len(shape) == 4 and shape[-1] in (3, None)
            if not is_image or any(size is not None and size < minimum for size in shape[1:3]):
                raise ImageShapeError(shape, minimum)

    @staticmethod
    def _spec_from(data: dict[str, Any]) -> NetVLADSpec:
        return NetVLADSpec.from_dict(data)


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
