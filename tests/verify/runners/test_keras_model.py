"""Keras models that are not this project's: run where harmless, refused by name elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import LayerError, MappingError, ReadError
from verify.names.canonical import Place
from verify.runners import keras_model

keras = pytest.importorskip("keras")

IMAGES = np.random.default_rng(3).integers(0, 256, (2, 9, 11, 3), np.uint8)


def saved(path: Path, *outputs: Any, inputs: Any) -> Path:
    keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs).save(path)
    return path


@pytest.fixture
def branched(tmp_path: Path) -> Path:
    """Two convolutions side by side, added, with a pool and a matrix behind them."""
    image = keras.Input((None, None, 3), name="image")
    left = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
    right = keras.layers.Conv2D(4, 1, use_bias=False, name="second")(image)
    total = keras.layers.Add(name="total")([left, right])
    pooled = keras.layers.GlobalMaxPooling2D(name="max_core")(total)
    return saved(tmp_path / "m.keras", keras.layers.Dense(2, name="WPCA")(pooled), inputs=image)


def test_keras_own_layers_run_under_their_names(branched: Path) -> None:
    runner = keras_model.open(branched)
    assert set(runner.layers[:2]) == {"first", "second"}
    assert runner.layers[2:] == ("total", "max:core", "WPCA")
    assert runner.reads["total"] == ("first", "second")
    found = dict(runner.run(IMAGES))
    np.testing.assert_array_equal(found["total"], found["first"] + found["second"])
    np.testing.assert_array_equal(found["max:core"], found["total"].max((1, 2)))
    np.testing.assert_allclose(runner.deployed(IMAGES)["WPCA"], found["WPCA"], rtol=1e-5)
    replayed = runner.replay("total", [found["first"], 2 * found["first"]])
    np.testing.assert_allclose(replayed, 3 * found["first"], rtol=1e-6)
    assert {name: w.shape for name, w in runner.weights().items()} == {
        "first/kernel": (3, 3, 3, 4),
        "first/bias": (4,),
        "second/kernel": (1, 1, 3, 4),
        "WPCA/kernel": (4, 2),
        "WPCA/bias": (2,),
    }


def test_a_table_of_names_renames_layers_and_their_weights(branched: Path) -> None:
    runner = keras_model.open(branched, {"conv1_1": Place("first"), "conv1_2": Place("second")})
    assert set(runner.layers) == {"conv1_1", "conv1_2", "total", "max:core", "WPCA"}
    assert runner.weights()["conv1_2/kernel"].shape == (1, 1, 3, 4)
    with pytest.raises(MappingError) as caught:
        keras_model.open(branched, {"conv1_1": Place("first"), "conv1_2": Place("secund")})
    (missing,) = caught.value.missing
    assert missing.startswith("conv1_2 (secund in ")
    assert "it has second" in missing


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_lambda_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    image = keras.Input((4, 4, 3))
    output = keras.layers.Lambda(lambda x: x * 2, name="twice", output_shape=(4, 4, 3))(image)
    path = saved(tmp_path / name, output, inputs=image)
    with pytest.raises(ReadError, match="Lambda"):
        keras_model.open(path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_class_of_somebody_elses_is_refused_even_where_it_is_registered(
    tmp_path: Path, name: str
) -> None:
    doubling = type("Doubling", (keras.layers.Layer,), {"call": lambda self, x: x * 2})
    keras.saving.register_keras_serializable(package="elsewhere")(doubling)
    image = keras.Input((4, 4, 3))
    path = saved(tmp_path / name, doubling()(image), inputs=image)
    with pytest.raises(ReadError, match="Doubling"):
        keras_model.open(path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_function_object_is_refused(tmp_path: Path, name: str) -> None:
    def thrice(x: Any) -> Any:
        return x * 3

    keras.saving.register_keras_serializable(package="elsewhere")(thrice)
    image = keras.Input((4, 4, 3))
    path = saved(tmp_path / name, keras.layers.Conv2D(2, 1, activation=thrice)(image), inputs=image)
    with pytest.raises(ReadError, match="thrice"):
        keras_model.open(path)


def test_a_saved_model_inside_a_keras_file_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.f = tf.function(lambda x: x, input_signature=[tf.TensorSpec((None, 4, 4, 3))])
    tf.saved_model.save(module, str(tmp_path / "inner"), signatures=module.f)
    image = keras.Input((4, 4, 3))
    layer = keras.layers.TFSMLayer(str(tmp_path / "inner"), call_endpoint="serving_default")
    path = saved(tmp_path / "model.keras", layer(image)["output_0"], inputs=image)
    with pytest.raises(ReadError, match="TFSMLayer"):
        keras_model.open(path)


def test_each_of_two_inputs_is_given_by_its_name(tmp_path: Path) -> None:
    first, second = keras.Input((4, 4, 3), name="left"), keras.Input((4, 4, 3), name="right")
    less = keras.layers.Subtract(name="less")([first, second])
    runner = keras_model.open(saved(tmp_path / "two.keras", less, inputs=[first, second]))
    one, two = np.full((1, 4, 4, 3), 5.0), np.full((1, 4, 4, 3), 2.0)
    given = {"right": two, "left": one}
    np.testing.assert_array_equal(dict(runner.run(given))["less"], np.full(one.shape, 3.0))
    np.testing.assert_array_equal(runner.deployed(given)["less"], np.full(one.shape, 3.0))


def test_what_only_training_runs_is_no_layer(tmp_path: Path) -> None:
    first = keras.Input((4, 4, 3))
    dropped = keras.layers.Dropout(0.5, name="drop")(keras.layers.ReLU(name="one")(first))
    out = keras.layers.ReLU(name="two")(dropped)
    runner = keras_model.open(saved(tmp_path / "m.keras", out, inputs=first))
    assert runner.reads == {"one": ("image",), "two": ("one",)}


def test_shared_layers_are_refused(tmp_path: Path) -> None:
    first = keras.Input((4, 4, 3))
    shared = keras.layers.Conv2D(3, 1, name="again")
    path = saved(tmp_path / "shared.keras", shared(shared(first)), inputs=first)
    with pytest.raises(LayerError) as caught:
        keras_model.open(path)
    assert "again" in caught.value.faults


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_what_is_no_model_is_a_read_error(tmp_path: Path, name: str) -> None:
    for content in (b"", b"PK\x03\x04 not really", b"\x89HDF\r\n\x1a\n and then nothing"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReadError, match="cannot be opened as a Keras model"):
            keras_model.open(tmp_path / name)
    with pytest.raises(ReadError):
        keras_model.open(tmp_path / "absent" / name)


def test_onednn_is_off() -> None:
    import os

    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert sys.modules["verify.runners"].NOTES == ()


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_sequential_model_is_a_chain(tmp_path: Path, name: str) -> None:
    layers = [keras.layers.Conv2D(4, 3, name="conv1_1"), keras.layers.ReLU(name="relu1_1")]
    keras.Sequential([keras.Input((None, None, 3)), *layers]).save(tmp_path / name)
    runner = keras_model.open(tmp_path / name)
    assert runner.reads == {"conv1_1": ("image",), "relu1_1": ("conv1_1",)}
    found = dict(runner.run(IMAGES))
    np.testing.assert_array_equal(found["relu1_1"], np.maximum(found["conv1_1"], 0))
