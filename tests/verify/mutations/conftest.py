"""What plants faults: artifacts of all formats made of changed weights, and the score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from converters import formats
from converters.build import build
from converters.checkpoint import MEAN, Checkpoint
from converters.compose import compose
from converters.convert import weights_of
from converters.mini import mini, seeded
from converters.recognise import spec_from
from converters.writers.options import WriteOptions
from converters.writers.sources import matconvnet, netvlad_tf
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import CAFFE, MINI
from verify import regimes
from verify.capture import Runner
from verify.formats import open_artifact
from verify.result import Verdict
from verify.witness import witness

tf1 = tf.compat.v1
Array = NDArray[Any]
Weights = dict[str, Array]

CAFFE_SPEC = NetVLADSpec(
    trunk=tuple(replace(row, width=row.width // 8) if row.kind == "conv" else row for row in CAFFE),
    clusters=4,
    whitening=8,
    name="caffe",
)
#: The whole vector is each channel's maximum.
MAXIMUM = NetVLADSpec(
    trunk=MINI[:8],
    pooling="max",
    prel2=False,
    intranorm=False,
    clusters=0,
    whitening=0,
    name="maximum",
)
SOURCES: dict[str, Checkpoint] = {
    "mini": mini(),
    "caffe": seeded(CAFFE_SPEC, 3),
    "maximum": seeded(MAXIMUM, 5),
}
FILES = {
    "keras": "model.keras",
    "h5": "model.h5",
    "weights": "model.weights.h5",
    "savedmodel": "saved_model",
    "onnx": "model.onnx",
    "mat": "model.mat",
    "tf_graph": "graph",
    "tf_variables": "variables",
}
#: A fault is to be caught on small images too.
IMAGES = regimes.regimes(regimes.Contract(size=(48, 64)))


def keep(weights: Weights, spec: NetVLADSpec) -> None:
    """Change nothing."""


@dataclass(frozen=True)
class Maker:
    """Makes artifacts in `folder`.

    source   one of `SOURCES`.
    plant    changes the weights in place, and may return another spec.
    rebuild  gives another in the place of the built model, or of the `.mat` file's net.
    graph    layer -> what the TensorFlow 1 graph has there.
    """

    folder: Path
    source: str = "mini"
    plant: Callable[[Weights, NetVLADSpec], NetVLADSpec | None] = keep
    rebuild: Callable[[Any], Any] = lambda net: net
    graph: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)

    def make(self, format: str) -> Path:
        checkpoint = SOURCES[self.source]
        spec = spec_from(checkpoint)
        weights = {name: np.array(values) for name, values in weights_of(checkpoint, spec).items()}
        spec = self.plant(weights, spec) or spec
        path = self.folder / FILES[format]
        if format == "mat":
            matconvnet.write(self.rebuild(composed(checkpoint, spec, weights)), path)
        elif format.startswith("tf_"):
            netvlad_tf.write(composed(checkpoint, spec, weights), path)
            if self.graph:
                write_graph(weights, path, self.graph)
            if format == "tf_variables":
                path.with_name(f"{path.name}.meta").unlink()
        else:
            model: Any = self.rebuild(build(spec, weights))
            formats.load(formats.ARTIFACTS[format]).write(model, path, WriteOptions())
        return path


def composed(source: Checkpoint, spec: NetVLADSpec, weights: Weights) -> Checkpoint:
    """The source with other weights and the layers of a spec, as MatConvNet has it."""
    places = {"kernel": 0, "bias": 1, "assignment": 0, "centers": 1}
    own = {"input/mean": MEAN}
    for name in weights:
        layer, _, part = name.rpartition("/")
        own.setdefault(name, f"{layer}/weights/{places.get(part)}")
    tensors = {
        own[name]: (-v if name.endswith("centers") else v).reshape(source.tensors[own[name]].shape)
        for name, v in weights.items()
    }
    layers = compose(spec, {k: v for k, v in source.tensors.items() if k != MEAN}).layers
    return replace(source, tensors=tensors, layers=layers)


def write_graph(weights: Weights, path: Path, graph: Mapping[str, Callable[[Any], Any]]) -> None:
    """netvlad_tf_open's graph (its operations and names), of these weights' widths."""
    with tf.Graph().as_default(), tf1.name_scope("vgg16_netvlad_pca/"):
        steps = {**graph_layers(weights), **graph}
        x = tf1.placeholder(tf.float32, (None, None, None, 3), name="image")
        for step in steps.values():
            x = step(x)
        tf1.train.export_meta_graph(f"{path}.meta")


def graph_layers(weights: Weights) -> dict[str, Callable[[Any], Any]]:
    """Layer -> what makes it; a relu behind a pool is no convolution's."""

    def variable(name: str, shape: tuple[int, ...]) -> Any:
        return tf1.get_variable(f"vgg16_netvlad_pca/{name}", shape, use_resource=False)

    def conv(name: str, kernel: tuple[int, ...]) -> Callable[[Any], Any]:
        def made(x: Any) -> Any:
            filters = variable(f"{name}/kernel", kernel)
            bias = variable(f"{name}/bias", kernel[-1:])
            y = tf.nn.conv2d(x, filters, 1, "SAME", name=f"{name}/Conv2D")
            return tf.nn.bias_add(y, bias, name=f"{name}/BiasAdd")

        return made

    def core(x: Any) -> Any:
        width, clusters = weights["vlad:core/centers"].shape
        kernel = variable("assignment/kernel", (1, 1, width, clusters))
        centers = variable("cluster_centers", (1, 1, 1, width, clusters))
        a = tf.nn.softmax(tf.nn.conv2d(x, kernel, 1, "VALID"))
        v = tf.expand_dims(x, -1) + centers
        v = tf.reduce_sum(tf.expand_dims(a, -2) * v, axis=[1, 2])
        return tf.transpose(v, [0, 2, 1], name="transpose")

    def whitened(x: Any) -> Any:
        y = conv("WPCA", (1, 1, *weights["WPCA/kernel"].shape))(x[:, None, None])
        return tf.reshape(y, [-1, y.shape[-1]], name="flatten_1/Reshape")

    found = {"input": lambda x: tf.subtract(x, variable("average_rgb", (3,)), name="sub")}
    pools = 0
    for row in MINI:
        if row.kind == "conv":
            found[row.name] = conv(row.name, weights[f"{row.name}/kernel"].shape)
        elif row.kind == "pool":
            found[row.name] = pooled(pools)
            pools += 1
        else:
            own = found.keys() >= {f"pool{row.name[4]}"}
            found[row.name] = relu(f"Relu_{pools - 1}" if own else f"conv{row.name[4:]}/Relu")
    return {
        **found,
        "preL2": lambda x: tf.nn.l2_normalize(x, -1, name="l2_normalize"),
        "vlad:core": core,
        "vlad:intranorm": normalized("truediv"),
        "postL2": lambda x: normalized("truediv_1")(flat(x)),
        "WPCA": whitened,
        "finalL2": lambda x: tf.nn.l2_normalize(x, -1, name="l2_normalize_1"),
    }


def pooled(number: int) -> Callable[[Any], Any]:
    name = f"max_pooling2d_{number}/MaxPool".replace("_0", "")
    return lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID", name=name)


def relu(name: str) -> Callable[[Any], Any]:
    return lambda x: tf.nn.relu(x, name=name.replace("_0", ""))


def normalized(name: str, epsilon: float = 1e-12) -> Callable[[Any], Any]:
    """Over the last axis, with the epsilon under the root."""

    def made(x: Any) -> Any:
        return tf.divide(x, tf.sqrt(tf.reduce_sum(x**2, -1, keepdims=True) + epsilon), name=name)

    return made


def flat(x: Any) -> Any:
    """Clusters fastest."""
    return tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, x.shape[1] * x.shape[2]])


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """To be given a source and a fault by `dataclasses.replace`."""
    return Maker(tmp_path)


@pytest.fixture
def judged() -> Callable[..., Verdict]:
    """(path, source) -> the first verdict that is not good, on small images."""

    def judge(path: Path, source: str = "mini", images: Mapping[str, Array] = IMAGES) -> Verdict:
        runner: Runner = open_artifact(path)
        report = witness(SOURCES[source], {path.name: runner}, images)
        return report.first_failure or Verdict(True)

    return judge


#: Name, format, layer, caught, charged.
_SCORE: list[tuple[str, str, str, bool, bool]] = []


@pytest.fixture
def charge() -> Callable[..., None]:
    """Hold a verdict against what it should be, and count it."""

    def charged(fault: Any, format: str, found: Verdict) -> None:
        place = (found.first_bad_layer, found.tensor) == (fault.layer, fault.tensor)
        named = fault.cause.lower() in found.cause.lower() if fault.cause else not found.cause
        _SCORE.append((fault.name, format, fault.layer, not found.passed, place and named))
        assert not found.passed
        assert (found.first_bad_layer, found.tensor) == (fault.layer, fault.tensor), found.sentence
        assert named, found

    return charged


@pytest.fixture(scope="session", autouse=True)
def score() -> Iterator[None]:
    """The table, when all is done; `-s` shows it."""
    yield
    caught = sum(row[3] for row in _SCORE)
    charged = sum(row[4] for row in _SCORE)
    for name, format, layer, was_caught, was_charged in _SCORE:
        words = ("caught" if was_caught else "MISSED", "charged" if was_charged else "NOT CHARGED")
        print(f"\n{format:12} {layer:15} {name:34} {words[0]}, {words[1]}", end="")
    print(f"\n{caught} of {len(_SCORE)} caught, {charged} charged to the right layer and cause")


@pytest.fixture(scope="session")
def sources() -> dict[str, Checkpoint]:
    """The nets by name."""
    return SOURCES


@pytest.fixture(scope="session")
def small() -> dict[str, Array]:
    """The default inputs, small."""
    return IMAGES
