"""Files of other people's making, from the command line to the exit code."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import MEAN, Checkpoint, Layer
from converters.mini import mini
from converters.writers.sources import matconvnet
from netvlad_keras import pooling
from verify.__main__ import main
from verify.reference import weights_of

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")
tf = pytest.importorskip("tensorflow")
tf1 = tf.compat.v1

Array = NDArray[Any]
Weights = Mapping[str, Array]
Write = Callable[[Path, Weights], tuple[Path, dict[str, Any]]]

SOURCE = mini()
WEIGHTS = weights_of(SOURCE)
LAYERS = ("input", *(layer.name for layer in SOURCE.layers))
#: What a stranger calls the layers' outputs, and the weights.
OUTPUTS = {name: f"net/L{number:02d}" for number, name in enumerate(LAYERS)}
OWN = {name: f"net/w{number:02d}" for number, name in enumerate(WEIGHTS)}


def unit(values: Any, *axes: int, epsilon: float = 0.0) -> Any:
    return values / tf.sqrt(tf.reduce_sum(values * values, axes, keepdims=True) + epsilon)


def computed(layer: Layer, x: Any, weight: Callable[[str], Any]) -> Any:
    """A layer in TensorFlow's own words."""
    if layer.name == "WPCA":
        return tf.matmul(x, weight("WPCA/kernel")) + weight("WPCA/bias")
    if layer.kind == "conv":
        return tf.nn.conv2d(x, weight(f"{layer.name}/kernel"), 1, "SAME") + weight(
            f"{layer.name}/bias"
        )
    if layer.kind == "pool":
        return tf.nn.max_pool2d(x, 2, 2, "VALID")
    if layer.kind == "relu":
        return tf.nn.relu(x)
    if layer.kind == "normalize":
        return unit(x, -1, epsilon=1e-12)
    if layer.kind == "layerVLAD":
        assigned = tf.nn.softmax(tf.einsum("nhwd,dk->nhwk", x, weight("vlad:core/assignment")))
        sums = tf.einsum("nhwk,nhwd->nkd", assigned, x)
        centers = tf.transpose(weight("vlad:core/centers"))
        return sums - tf.reduce_sum(assigned, (1, 2))[..., None] * centers
    flat = tf.reshape(tf.transpose(x, (0, 2, 1)), (tf.shape(x)[0], -1)) if x.shape.rank == 3 else x
    return flat / (tf.sqrt(tf.reduce_sum(flat * flat, 1, keepdims=True)) + 1e-12)


def forward(images: Any, weight: Callable[[str], Any]) -> Any:
    """The whole net under a stranger's names."""
    x = tf.subtract(images, weight("input/mean"))
    x = tf.identity(x, OUTPUTS["input"])
    for layer in SOURCE.layers:
        x = tf.identity(computed(layer, x, weight), OUTPUTS[layer.name])
    return x


def table(scope: str = "") -> dict[str, Any]:
    """The names that a user writes down for it."""
    layers: dict[str, Any] = {name: f"{scope}{own}:0" for name, own in OUTPUTS.items()}
    for name in ("vlad:core", "vlad:intranorm"):
        layers[name] = {"tensor": layers[name], "axes": "NKD"}
    return {**layers, **OWN}


def frozen_graph(folder: Path, weights: Weights) -> tuple[Path, dict[str, Any]]:
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        images = tf1.placeholder(tf.float32, (None, None, None, 3), name="pictures")
        variables = {
            name: tf1.get_variable(OWN[name], initializer=values, use_resource=False)
            for name, values in weights.items()
        }
        output = forward(images, variables.__getitem__)
        session.run(tf1.global_variables_initializer())
        frozen = tf1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [output.op.name]
        )
    path = folder / "frozen.pb"
    path.write_bytes(frozen.SerializeToString())
    return path, table()


def saved_model(folder: Path, weights: Weights) -> tuple[Path, dict[str, Any]]:
    module = tf.Module()
    module.variables_ = {name: tf.Variable(w, name=OWN[name]) for name, w in weights.items()}
    spec = tf.TensorSpec((None, None, None, 3), tf.float32, "pictures")

    def serve(pictures: Any) -> dict[str, Any]:
        return {"features": forward(pictures, lambda name: module.variables_[name])}

    path = folder / "stranger"
    tf.saved_model.save(module, str(path), signatures=tf.function(serve, input_signature=[spec]))
    return path, table("StatefulPartitionedCall/")


@pytest.fixture
def onnx_file(mini_artifacts: Path) -> Write:
    def write(folder: Path, weights: Weights) -> tuple[Path, dict[str, Any]]:
        """This project's own file without its names and metadata."""
        model = onnx.load(mini_artifacts / "model.onnx")
        metadata = {
            entry.key: json.loads(entry.value)
            for entry in model.metadata_props
            if entry.key in ("layouts", "values")
        }
        del model.metadata_props[:]
        numbers = itertools.count()
        own: dict[str, str] = {}
        for tensor in model.graph.initializer:
            if tensor.name == "conv3_2/kernel":
                values = np.ascontiguousarray(weights[tensor.name].transpose(3, 2, 0, 1))
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        for node in model.graph.node:
            node.name = f"n{next(numbers)}"
            for values in (node.input, node.output):
                for place, name in enumerate(values):
                    values[place] = own.setdefault(name, f"t{next(numbers)}") if name else ""
        for value in (*model.graph.initializer, *model.graph.input, *model.graph.output):
            value.name = own.setdefault(value.name, f"t{next(numbers)}")
        del model.graph.value_info[:]
        path = folder / "stranger.onnx"
        onnx.save(model, path)
        called = {name: metadata["values"].get(name, name) for name in LAYERS}
        return path, {name: own[called.get(name, name)] for name in (*LAYERS, *WEIGHTS)}

    return write


@pytest.fixture(params=["frozen_graph", "saved_model", "onnx_file"])
def write(request: pytest.FixtureRequest) -> Write:
    known: dict[str, Write] = {"frozen_graph": frozen_graph, "saved_model": saved_model}
    made: Write = known.get(request.param) or request.getfixturevalue(request.param)
    return made


def checked(source: Path, path: Path, names: Mapping[str, Any] | None, folder: Path) -> int:
    words = ["check", "--reference", str(source), str(path), "--report", str(folder)]
    if names is not None:
        (folder / "names.json").write_text(json.dumps(names))
        words += ["--names", str(folder / "names.json")]
    return main([*words, "--inputs", "photograph"])


def report(folder: Path) -> Any:
    return json.loads((folder / "report" / "report.json").read_text())


def test_a_faithful_file_passes_by_a_table_of_names(
    write: Write, mini_mat: Path, tmp_path: Path
) -> None:
    path, names = write(tmp_path, WEIGHTS)
    assert checked(mini_mat, path, names, tmp_path) == 0
    column = report(tmp_path)["regimes"][0]["columns"][0]
    assert [row["layer"] for row in column["layers"]] == list(LAYERS)
    assert all(row["own"] for row in column["layers"][1:])
    assert len(column["weights"]) == len(WEIGHTS)


def test_one_changed_weight_is_found(write: Write, mini_mat: Path, tmp_path: Path) -> None:
    kernel = WEIGHTS["conv3_2/kernel"].copy()
    kernel[1, 2, 3, 4] += kernel.std()
    path, names = write(tmp_path, {**WEIGHTS, "conv3_2/kernel": kernel})
    assert checked(mini_mat, path, names, tmp_path) == 1
    verdict = report(tmp_path)["verdict"]
    assert (verdict["first_bad_layer"], verdict["tensor"]) == ("conv3_2", "conv3_2/kernel")


def test_a_layer_without_a_name_fails(mini_mat: Path, tmp_path: Path) -> None:
    path, names = frozen_graph(tmp_path, WEIGHTS)
    del names["relu4_1"]
    assert checked(mini_mat, path, names, tmp_path) == 1
    verdict = report(tmp_path)["verdict"]
    assert verdict["first_bad_layer"] == "relu4_1"
    assert "has no such layer" in verdict["sentence"]


def test_a_name_that_is_not_there_cannot_be_compared(
    write: Write, mini_mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, names = write(tmp_path, WEIGHTS)
    assert checked(mini_mat, path, {**names, "relu4_1": "nothing:0"}, tmp_path) == 2
    said = capsys.readouterr().err
    assert "relu4_1 (nothing:0 in " in said
    assert path.name in said


def trunk() -> Checkpoint:
    """The convolutions alone, without a mean."""
    layers = tuple(layer for layer in SOURCE.layers if layer.kind in ("conv", "pool", "relu"))
    layers = tuple(layer for layer in layers if layer.name != "WPCA")
    kept = {name for layer in layers for name in layer.params}
    tensors = {name: t for name, t in SOURCE.tensors.items() if name in kept and name != MEAN}
    return replace(SOURCE, tensors=tensors, layers=layers)


KERAS_POOL = keras.layers.MaxPooling2D
OUR_POOL = functools.partial(pooling.MaxPooling, (2, 2), (2, 2), (0, 0, 0, 0))


def keras_model(name: Callable[[str], str], pool: Callable[..., Any] = KERAS_POOL) -> Any:
    """The same of Keras's own layers."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Activation("linear", name=name("input"))(image)
    for layer in trunk().layers:
        own = name(layer.name)
        if layer.kind == "conv":
            width = WEIGHTS[f"{layer.name}/bias"].size
            x = keras.layers.Conv2D(width, 3, padding="same", name=own)(x)
        elif layer.kind == "pool":
            x = pool(name=own)(x)
        else:
            x = keras.layers.ReLU(name=own)(x)
    model = keras.Model(image, x)
    for layer in trunk().layers:
        if layer.kind == "conv":
            both = [WEIGHTS[f"{layer.name}/{kind}"] for kind in ("kernel", "bias")]
            model.get_layer(name(layer.name)).set_weights(both)
    return model


@pytest.mark.parametrize("pool", [KERAS_POOL, OUR_POOL], ids=["Keras", "ours"])
@pytest.mark.parametrize(("file", "renamed"), [("model.keras", True), ("model.h5", False)])
def test_keras_own_layers(
    file: str, renamed: bool, pool: Callable[..., Any], tmp_path: Path
) -> None:
    matconvnet.write(trunk(), tmp_path / "trunk.mat")
    layers = ("input", *(layer.name for layer in trunk().layers))
    own = {layer: f"block_{number}" if renamed else layer for number, layer in enumerate(layers)}
    names = own if renamed else None
    model = keras_model(own.__getitem__, pool)
    model.save(tmp_path / file)
    assert checked(tmp_path / "trunk.mat", tmp_path / file, names, tmp_path) == 0
    column = report(tmp_path)["regimes"][0]["columns"][0]
    assert [row["layer"] for row in column["layers"]] == list(layers)
    assert len(column["weights"]) == 26

    kernel, bias = model.get_layer(own["conv4_2"]).get_weights()
    bias[3] += 0.01
    model.get_layer(own["conv4_2"]).set_weights([kernel, bias])
    model.save(tmp_path / file)
    assert checked(tmp_path / "trunk.mat", tmp_path / file, names, tmp_path) == 1
    assert report(tmp_path)["verdict"]["tensor"] == "conv4_2/bias"


def a_lambda(folder: Path) -> Any:
    mark = str(folder / "executed")

    def leave(x: Any) -> Any:
        Path(mark).touch()
        return x * 2

    return keras.layers.Lambda(leave, output_shape=(32, 32, 3))


def a_saved_model(folder: Path) -> Any:
    module = tf.Module()
    spec = tf.TensorSpec((None, 32, 32, 3))
    module.f = tf.function(lambda x: {"out": x}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "inner"), signatures=module.f)
    layer = keras.layers.TFSMLayer(str(folder / "inner"), call_endpoint="serving_default")
    return lambda x: layer(x)["out"]


def an_unknown_class(folder: Path) -> Any:
    mark = folder / "executed"

    def build(self: Any, shape: Any) -> None:
        mark.touch()

    body = {"build": build, "call": lambda self, x: x * 2}
    kind = type("Doubling", (keras.layers.Layer,), body)
    return keras.saving.register_keras_serializable(package="elsewhere")(kind)()


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
@pytest.mark.parametrize(
    ("made", "culprit"),
    [(a_lambda, "Lambda"), (a_saved_model, "TFSMLayer"), (an_unknown_class, "Doubling")],
)
def test_what_would_run_code_is_refused_by_name(
    made: Callable[[Path], Any],
    culprit: str,
    file: str,
    mini_mat: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = keras.Input((32, 32, 3))
    keras.Model(image, made(tmp_path)(image)).save(tmp_path / file)
    (tmp_path / "executed").unlink(missing_ok=True)
    assert checked(mini_mat, tmp_path / file, None, tmp_path) == 2
    said = capsys.readouterr().err
    assert f"{file}: refused: " in said
    assert culprit in said
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "report").exists()
