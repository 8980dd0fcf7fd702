"""SavedModels that are not this project's: run by names, refused where they reach out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import LayerError, MappingError, ReadError
from verify.formats import open_artifact
from verify.names.canonical import Place
from verify.runners import savedmodel

tf = pytest.importorskip("tensorflow")

IMAGES = np.random.default_rng(5).integers(0, 256, (1, 12, 14, 3), np.uint8)
KERNEL = np.random.default_rng(6).standard_normal((3, 3, 3, 4)).astype(np.float32)
CONV = "StatefulPartitionedCall/net/conv:0"


def saved(path: Path, extra: Callable[[Any], Any] = lambda x: x, output: str = "features") -> Path:
    module = tf.Module()
    module.kernel = tf.Variable(KERNEL, name="trunk/w")

    def serve(pictures: Any) -> dict[str, Any]:
        conv = tf.nn.conv2d(extra(pictures), module.kernel, 1, "SAME", name="net/conv")
        return {output: tf.nn.relu(conv, name="net/relu")}

    spec = tf.TensorSpec((None, None, None, 3), tf.float32, "pictures")
    signature = tf.function(serve, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures=signature)
    return path


def test_inner_tensors_run_by_a_table_of_names(tmp_path: Path) -> None:
    names = {
        "conv1_1": Place(CONV),
        "relu1_1": Place("StatefulPartitionedCall/net/relu:0"),
        "conv1_1/kernel": Place("trunk/w"),
    }
    runner: Any = open_artifact(saved(tmp_path / "m"), names)
    assert runner.reads == {"conv1_1": ("image",), "relu1_1": ("conv1_1",)}
    found = dict(runner.run(IMAGES))
    right = np.asarray(tf.nn.conv2d(IMAGES.astype(np.float32), KERNEL, 1, "SAME"))
    np.testing.assert_allclose(found["conv1_1"], right, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found["relu1_1"], np.maximum(found["conv1_1"], 0))
    np.testing.assert_allclose(runner.deployed(IMAGES)["relu1_1"], found["relu1_1"], atol=1e-3)
    np.testing.assert_array_equal(runner.weights()["conv1_1/kernel"], KERNEL)
    assert set(runner.weights()) == {"conv1_1/kernel"}


def test_an_output_of_a_layers_name_is_that_layer(tmp_path: Path) -> None:
    runner: Any = open_artifact(saved(tmp_path / "m", output="relu1_1"))
    assert runner.reads == {"relu1_1": ("image",)}
    assert set(runner.weights()) == {"trunk/w"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({}, "Its outputs are features: give a table of names"),
        ({"conv1_1": Place("net/conv:0")}, rf"conv1_1 \(net/conv:0 in .*it has .*{CONV}"),
        ({"conv1_1": Place(CONV), "conv1_1/bias": Place("trunk/b")}, r"conv1_1/bias \(trunk/b in"),
    ],
)
def test_names_that_are_not_there_are_named(
    tmp_path: Path, names: dict[str, Place], words: str
) -> None:
    with pytest.raises(MappingError, match=words):
        savedmodel.open(saved(tmp_path / "m"), names)


def test_two_names_of_one_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="relu1_1: is the same tensor as conv1_1"):
        savedmodel.open(saved(tmp_path / "m"), {"conv1_1": Place(CONV), "relu1_1": Place(CONV)})


@pytest.mark.parametrize(
    ("extra", "operation"),
    [
        (lambda x: tf.numpy_function(lambda a: a, [x], tf.float32), "PyFunc"),
        (lambda x: tf.py_function(lambda a: a, [x], tf.float32), "EagerPyFunc"),
        (lambda x: x + tf.strings.to_number(tf.io.read_file("/etc/passwd")), "ReadFile"),
        (lambda x: tf.raw_ops.RestoreV2(
            prefix="/etc/passwd", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0] + x, "RestoreV2"),
    ],
)  # fmt: skip
def test_models_that_reach_outside_are_refused(
    tmp_path: Path, extra: Callable[[Any], Any], operation: str
) -> None:
    path = saved(tmp_path / "m", extra, output="relu1_1")
    with pytest.raises(ReadError, match=rf"refused: it holds {operation} \("):
        savedmodel.open(path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="is not a SavedModel"):
        savedmodel.open(tmp_path)
    for content in (b"", b"not a SavedModel"):
        (tmp_path / "saved_model.pb").write_bytes(content)
        with pytest.raises(ReadError, match="is not a SavedModel"):
            open_artifact(tmp_path)
    path = saved(tmp_path / "m")
    (path / "variables" / "variables.index").unlink()
    with pytest.raises(ReadError, match="cannot be loaded"):
        open_artifact(path)


def test_a_model_without_signatures_is_refused(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"))
    with pytest.raises(ReadError, match="has no signature"):
        savedmodel.open(tmp_path / "m")
