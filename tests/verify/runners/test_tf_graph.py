"""TensorFlow 1 graphs: netvlad_tf_open's own, frozen ones, and what must not be run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.errors import ConversionError, MappingError, ReadError
from verify import oracle
from verify.formats import open_artifact
from verify.names.canonical import Place
from verify.reference import reference

tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1
Array = NDArray[Any]

#: To the absolute maximum of each layer; behind the sharp softmax float32 itself carries more.
SHARP = ("vlad:core", "vlad:intranorm", "postL2", "WPCA", "finalL2")
IMAGES = np.random.default_rng(5).integers(0, 256, (1, 12, 14, 3), np.uint8)
KERNEL = np.random.default_rng(6).standard_normal((3, 3, 3, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> tuple[Array, dict[str, Array]]:
    """An image, and every layer's output by MatConvNet's own code."""
    folder = shared_data / "netvlad"
    with np.load(folder / "matconvnet_layers_query_96x128.npz") as archive:
        layers = {key.split("|", 1)[1]: archive[key] for key in archive.files}
    image = np.load(folder / "image_query_96x128.npy")
    return image.reshape(1, 96, 128, 3), layers


@pytest.fixture(scope="module")
def upstream(shared_data: Path) -> Any:
    """netvlad_tf_open's graph with ImageNet's weights."""
    return open_artifact(shared_data / "netvlad" / "vd16_white64")


def test_the_upstream_graph_is_matconvnets_layer_by_layer(
    upstream: Any, golden: tuple[Array, dict[str, Array]]
) -> None:
    image, expected = golden
    assert upstream.kind == "tf_graph"
    assert upstream.layers == tuple(expected)
    assert len(upstream.layers) == 36
    for layer, found in upstream.run(image):
        right = expected[layer]
        vector = right.ndim == 3 and right.shape[:2] == (1, 1)
        shape = (1, right.shape[2]) if vector else (1, *right.shape)
        if layer in ("vlad:core", "vlad:intranorm"):
            assert found.shape == (1, 1, 64, 512)
        else:
            assert found.shape == shape, layer
        error = np.abs(found.reshape(right.shape) - right).max() / np.abs(right).max()
        assert error <= (5e-5 if layer in SHARP else 2e-6), (layer, error)


def test_the_upstream_graph_replays_every_layer(
    upstream: Any, shared_data: Path, golden: tuple[Array, dict[str, Array]]
) -> None:
    source = reference(shared_data / "netvlad" / "vd16_white64")
    image = golden[0][:, :32, :48]
    values = {name: v.astype(np.float32) for name, v in oracle.execute(source, image)}
    for layer in source.layers:
        inputs = [values[name] for name in layer.inputs]
        right = oracle.replay(source, layer.name, inputs)
        error = np.abs(upstream.replay(layer.name, inputs) - right).max()
        assert error <= 5e-6 * np.abs(right).max(), layer.name


def test_the_upstream_graph_says_that_it_clamps(upstream: Any) -> None:
    (note,) = upstream.notes
    assert "preL2 and finalL2" in note
    tiny = np.full((1, 1, 1, 512), 1e-9, np.float32)
    assert np.abs(upstream.replay("preL2", [tiny]).max() - 1e-3) < 1e-6


def test_the_upstream_weights_are_the_mat_files(upstream: Any, shared_data: Path) -> None:
    pytest.importorskip("matio", reason="the .mat file holds class objects")
    from verify.reference import weights_of

    folder = shared_data / "netvlad"
    expected = weights_of(reference(folder / "vd16_white64_classes_v7.mat"))
    found = upstream.weights()
    assert found.keys() == expected.keys()
    assert len(found) == 31
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


def test_the_upstream_graph_describes_as_upstream_did(upstream: Any, shared_data: Path) -> None:
    for name in ("query", "db1", "db2"):
        image = np.load(shared_data / "netvlad" / f"image_{name}_96x128.npy")
        right = np.load(shared_data / "netvlad" / f"tf1_upstream_descriptor_{name}_96x128.npy")
        found = upstream.deployed(image.reshape(1, 96, 128, 3))["finalL2"]
        assert np.linalg.norm(found - right.reshape(1, -1)) < 1e-5


def test_without_its_graph_a_checkpoint_is_weights_alone(
    upstream: Any, shared_data: Path, tmp_path: Path
) -> None:
    for file in (shared_data / "netvlad").glob("vd16_white64.*"):
        if file.suffix != ".meta":
            (tmp_path / file.name).symlink_to(file)
    runner = open_artifact(tmp_path / "vd16_white64.index")
    assert (runner.kind, runner.layers) == ("tf_variables", ())
    assert "weights alone" in runner.notes[0]
    found, expected = runner.weights(), upstream.weights()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


def build(graph: Any, extra: Callable[[Any], Any] = lambda x: x) -> None:
    """A convolution and a relu, with a variable, under names of somebody's own."""
    with graph.as_default():
        images = tf1.placeholder(tf.float32, (None, None, None, 3), name="pictures")
        kernel = tf1.get_variable("net/w", initializer=KERNEL, use_resource=False)
        conv = tf.nn.conv2d(extra(images), kernel, 1, "SAME", name="net/conv")
        tf.nn.relu(conv, name="relu1_1")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        build(graph)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "net"))
    return tmp_path / "net"


def frozen(path: Path, extra: Callable[[Any], Any] = lambda x: x) -> Path:
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        build(graph, extra)
        session.run(tf1.global_variables_initializer())
        constant = tf1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["relu1_1"]
        )
    path.write_bytes(constant.SerializeToString())
    return path


NAMES = {"conv1_1": Place("net/conv:0"), "conv1_1/kernel": Place("net/w")}


def conv(images: Array) -> Array:
    with tf.device("CPU"):
        return np.asarray(tf.nn.conv2d(images.astype(np.float32), KERNEL, 1, "SAME"))


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_strangers_graph_runs_by_a_table_of_names(
    checkpoint: Path, tmp_path: Path, is_frozen: bool
) -> None:
    path = frozen(tmp_path / "net.pb") if is_frozen else checkpoint
    runner: Any = open_artifact(path, {**NAMES, "relu1_1": Place("relu1_1:0")})
    assert (runner.kind, runner.layers) == ("tf_graph", ("conv1_1", "relu1_1"))
    found = dict(runner.run(IMAGES))
    np.testing.assert_allclose(found["conv1_1"], conv(IMAGES), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found["relu1_1"], np.maximum(found["conv1_1"], 0))
    np.testing.assert_array_equal(runner.deployed(IMAGES)["relu1_1"], found["relu1_1"])
    half = found["conv1_1"] / 2
    np.testing.assert_array_equal(runner.replay("relu1_1", [half]), np.maximum(half, 0))
    assert set(runner.weights()) == {"conv1_1/kernel"}
    np.testing.assert_array_equal(runner.weights()["conv1_1/kernel"], KERNEL)


def test_operations_of_a_layers_name_are_found(tmp_path: Path) -> None:
    runner: Any = open_artifact(frozen(tmp_path / "net.pb"))
    assert runner.reads == {"relu1_1": ("image",)}
    assert set(runner.weights()) == {"net/w"}


def test_old_output_shapes_do_not_matter(checkpoint: Path) -> None:
    meta = tf1.MetaGraphDef.FromString(Path(f"{checkpoint}.meta").read_bytes())
    for node in meta.graph_def.node:
        if node.op == "Conv2D":
            shape = node.attr["_output_shapes"].list.shape.add()
            shape.dim.add(size=5)
    Path(f"{checkpoint}.meta").write_bytes(meta.SerializeToString())
    assert open_artifact(checkpoint, NAMES).layers == ("conv1_1",)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"conv1_1": Place("net/konv:0")}, r"conv1_1 \(net/konv:0 in .*it has net/conv:0"),
        ({**NAMES, "conv1_1/bias": Place("net/b")}, r"conv1_1/bias \(net/b in"),
        ({**NAMES, "input": Place("net/w")}, None),
        ({"conv1_1/kernel": Place("net/w")}, None),
    ],
)
def test_names_that_are_not_there_are_named(
    checkpoint: Path, names: dict[str, Place], words: str | None
) -> None:
    if words is None:  # the layers that carry a name are taken, the weight is renamed
        assert open_artifact(checkpoint, names).layers[-1] in ("relu1_1", "conv1_1")
        return
    with pytest.raises(MappingError, match=words):
        open_artifact(checkpoint, names)


def test_two_placeholders_are_told_apart_by_name(tmp_path: Path) -> None:
    def halved(images: Any) -> Any:
        return images * tf1.placeholder(tf.float32, (), name="scale")

    path = frozen(tmp_path / "net.pb", halved)
    with pytest.raises(ConversionError, match=r"placeholders: pictures:0, scale:0"):
        open_artifact(path, NAMES)
    assert open_artifact(path, {**NAMES, "image": Place("pictures:0")}).layers == ("conv1_1",)


@pytest.mark.parametrize(
    ("extra", "operation"),
    [
        (lambda x: tf1.py_func(lambda a: a, [x], tf.float32), "PyFunc"),
        (lambda x: x + tf.strings.to_number(tf.io.read_file("/etc/passwd")), "ReadFile"),
        (lambda x: tf1.Print(x, [x]), "Print"),
    ],
)
def test_graphs_that_reach_outside_are_refused(
    tmp_path: Path, extra: Callable[[Any], Any], operation: str
) -> None:
    with pytest.raises(ReadError, match=rf"refused: it holds {operation} \("):
        open_artifact(frozen(tmp_path / "net.pb", extra))


def test_damaged_files_are_read_errors(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pb").write_text("not a graph")
    with pytest.raises(ReadError, match="is not a frozen TensorFlow graph"):
        open_artifact(tmp_path / "text.pb")
    meta = Path(f"{checkpoint}.meta")
    good = meta.read_bytes()
    meta.write_bytes(good[: len(good) // 2])
    with pytest.raises(ReadError, match=re.escape(str(meta))):
        open_artifact(checkpoint)
    meta.write_bytes(good)
    shutil.copy(checkpoint.with_name("net.index"), tmp_path / "other.index")
    shutil.copy(meta, tmp_path / "other.meta")
    with pytest.raises(ReadError, match="cannot be opened as a graph"):
        open_artifact(tmp_path / "other")
    with pytest.raises(ReadError, match="holds several checkpoints"):
        open_artifact(tmp_path)
