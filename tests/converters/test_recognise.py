"""Which NetVLAD a checkpoint is, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import MEAN, Checkpoint, Layer, Origin
from converters.convert import weights_of
from converters.errors import ConversionError, LayerError, MappingError
from converters.mini import SPEC, mini, seeded
from converters.recognise import spec_from
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import CAFFE, MINI, Row

SMALL_CAFFE = tuple(
    replace(row, width=row.width // 16) if row.kind == "conv" else row for row in CAFFE
)
SPECS = {
    "vlad white": SPEC,
    "vladv2": replace(SPEC, pooling="vladv2", intranorm=False, whitening=0, name="v2"),
    "no preL2": replace(SPEC, prel2=False, name="plain"),
    "max": NetVLADSpec(MINI, "max", False, False, 0, 0, name="m"),
    "avg white": NetVLADSpec(MINI, "avg", False, False, 0, 4, name="a"),
    "caffe": NetVLADSpec(SMALL_CAFFE, clusters=4, whitening=0, name="c"),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_net_is_recognised_and_its_weights_fit(name: str) -> None:
    spec = SPECS[name]
    checkpoint = seeded(spec, 1)
    red, green, blue = (float(np.float32(value)) for value in spec.mean)
    assert spec_from(checkpoint) == replace(spec, mean=(red, green, blue))
    arrays = weights_of(checkpoint, spec)
    assert {key: value.shape for key, value in arrays.items()} == spec.weight_shapes


def test_centres_are_negated_and_the_mean_is_the_first_pixel() -> None:
    checkpoint = mini()
    image = np.broadcast_to(np.arange(12.0).reshape(2, 2, 3), (2, 2, 3))
    changed = replace(checkpoint, tensors={**checkpoint.tensors, MEAN: image})
    arrays = weights_of(changed, spec_from(changed))
    np.testing.assert_array_equal(arrays["input/mean"], [0, 1, 2])
    stored = checkpoint.tensors["vlad:core/weights/1"][0, 0]
    np.testing.assert_array_equal(arrays["vlad:core/centers"], -stored)


def with_layer(checkpoint: Checkpoint, old: str, **changes: Any) -> Checkpoint:
    layers = tuple(
        replace(layer, **changes) if layer.name == old else layer for layer in checkpoint.layers
    )
    return replace(checkpoint, layers=layers)


def with_options(name: str, **options: Any) -> Checkpoint:
    checkpoint = mini()
    layer = next(layer for layer in checkpoint.layers if layer.name == name)
    return with_layer(checkpoint, name, options={**layer.options, **options})


REFUSED = {
    "dilated": (with_options("conv2_1", dilate=(2, 2)), "conv2_1", "dilated"),
    "leaky": (with_options("relu3_1", leak=0.1), "relu3_1", "leaky"),
    "average": (with_options("pool1", method="avg"), "pool1", "avg"),
    "epsilon": (with_options("preL2", param=(32, 1e-6, 1, 0.5)), "preL2", "1e-06"),
    "window": (with_options("vlad:intranorm", param=(5, 1e-12, 1, 0.5)), "vlad:intranorm", "5"),
    "unknown kind": (with_layer(mini(), "relu1_1", kind="sigmoid"), "relu1_1", "sigmoid"),
    "renamed": (with_layer(mini(), "finalL2", name="lastL2"), "lastL2", "finalL2"),
    "cut": (replace(mini(), layers=mini().layers[:-1]), "WPCA", "34 layers, the net has 35"),
    "no core": (replace(mini(), layers=mini().layers[:29]), "(net)", "core"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_nets_are_refused_by_layer(case: str) -> None:
    checkpoint, layer, reason = REFUSED[case]
    with pytest.raises(LayerError) as caught:
        spec_from(checkpoint)
    assert list(caught.value.faults) == [layer]
    assert reason in caught.value.faults[layer]


def test_filters_that_do_not_fit_the_data_are_refused() -> None:
    checkpoint = mini()
    name = "conv2_1/weights/0"
    tensors = {**checkpoint.tensors, name: np.zeros((3, 3, 5, 8), np.float32)}
    with pytest.raises(LayerError, match="conv2_1: filters of depth 5 on 8 channels"):
        spec_from(replace(checkpoint, tensors=tensors))


def test_a_net_without_a_mean_is_refused() -> None:
    checkpoint = mini()
    tensors = {name: value for name, value in checkpoint.tensors.items() if name != MEAN}
    with pytest.raises(ConversionError, match="no mean of three colours"):
        spec_from(replace(checkpoint, tensors=tensors))


def variables(**extra: Any) -> Checkpoint:
    return Checkpoint(extra, (), {}, Origin(Path("some.ckpt"), "tf_checkpoint"))


def test_variables_of_another_net_are_refused() -> None:
    with pytest.raises(ConversionError, match="cluster_centers"):
        spec_from(variables(dense=np.zeros(3)))


def test_a_stray_tensor_is_named() -> None:
    checkpoint = mini()
    tensors = {**checkpoint.tensors, "conv1_1/weights/2": np.zeros(3)}
    with pytest.raises(MappingError) as caught:
        weights_of(replace(checkpoint, tensors=tensors), SPEC)
    assert caught.value.unexpected == ("conv1_1/weights/2",)


def test_a_row_of_an_unknown_kind_cannot_end_a_trunk() -> None:
    with pytest.raises(ValueError, match="must end with a convolution"):
        NetVLADSpec(trunk=(Row("relu", "relu1"),))


def test_layers_carry_the_source_vocabulary() -> None:
    assert isinstance(mini().layers[0], Layer)
    assert [layer.name for layer in mini().layers] == [name for name, _ in SPEC.layers]
