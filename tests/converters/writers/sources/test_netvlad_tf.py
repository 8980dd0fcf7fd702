"""The TensorFlow checkpoint that is written, and what TensorFlow and the reader make of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import MEAN, Checkpoint
from converters.errors import LayerError
from converters.mini import SPEC, mini, seeded
from converters.readers import matconvnet as mat_reader
from converters.readers import tf_checkpoint as reader
from netvlad_keras.spec import NetVLADSpec

tf = pytest.importorskip("tensorflow", reason="it writes the checkpoint")
netvlad_tf = pytest.importorskip("converters.writers.sources.netvlad_tf")


def _swapped(net: Checkpoint) -> Checkpoint:
    first, second, *others = net.layers
    return replace(net, layers=(second, first, *others))


def _with(net: Checkpoint, name: str, **options: Any) -> Checkpoint:
    layers = (
        replace(layer, options={**layer.options, **options}) if layer.name == name else layer
        for layer in net.layers
    )
    return replace(net, layers=tuple(layers))


def _without(net: Checkpoint, name: str) -> Checkpoint:
    return replace(net, tensors={key: t for key, t in net.tensors.items() if key != name})


@pytest.mark.parametrize(
    ("net", "faults"),
    [
        (
            seeded(NetVLADSpec.from_name("caffe_pitts30k_conv5_vlad_preL2_intra"), 1),
            {"norm1": "netvlad_tf_open's net lacks it", "conv5_3": "this net lacks it"},
        ),
        (
            seeded(replace(SPEC, pooling="max", clusters=0, intranorm=False), 1),
            {
                "max:core": "netvlad_tf_open's net lacks it",
                "vlad:core": "this net lacks it",
                "vlad:intranorm": "this net lacks it",
            },
        ),
        (
            seeded(replace(SPEC, pooling="vladv2"), 1),
            {"vlad:core": "is a layerVLADv2, netvlad_tf_open's net has a layerVLAD"},
        ),
        (seeded(replace(SPEC, intranorm=False), 1), {"vlad:intranorm": "this net lacks it"}),
        (seeded(replace(SPEC, prel2=False), 1), {"preL2": "this net lacks it"}),
        (
            _with(mini(), "conv2_1", stride=(2, 2)),
            {"conv2_1": "stride (2, 2): the format cannot say it"},
        ),
        (
            _with(mini(), "preL2", param=(32.0, 1e-6, 1.0, 0.5)),
            {"preL2": "param (32.0, 1e-06, 1.0, 0.5): the format cannot say it"},
        ),
        (_without(mini(), "conv3_2/weights/1"), {"conv3_2": "this net has no conv3_2/weights/1"}),
        (_without(mini(), MEAN), {"(net)": "has no averageImage of three colours"}),
        (
            _swapped(mini()),
            {"(net)": "the layers stand in another order than netvlad_tf_open's net has them"},
        ),
    ],
    ids=[
        "caffe",
        "max",
        "v2",
        "no intra",
        "no preL2",
        "stride",
        "epsilon",
        "bias",
        "mean",
        "order",
    ],
)
def test_nets_that_netvlad_tf_open_has_no_names_for(
    tmp_path: Path, net: Checkpoint, faults: dict[str, str]
) -> None:
    with pytest.raises(LayerError) as caught:
        netvlad_tf.write(net, tmp_path / "net")
    assert faults.items() <= caught.value.faults.items()
    assert list(tmp_path.iterdir()) == []


def test_what_tensorflow_cannot_write_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "net.index").mkdir()  # in the way
    with pytest.raises(OSError, match=r"net\.index"):
        netvlad_tf.write(mini(), tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["net.index"]


WIDTHS = [3, 8, 8, 8, 8, 12, 12, 12, 16, 16, 16, 16, 16, 16]
NAMES = [f"{block}_{i}" for block in range(1, 6) for i in range(1, 3 if block < 3 else 4)]
CONVOLUTIONS = {
    f"conv{name}/{weight}": shape
    for name, before, width in zip(NAMES, WIDTHS, WIDTHS[1:], strict=False)
    for weight, shape in (("kernel", [3, 3, before, width]), ("bias", [width]))
}
HEAD = {
    "average_rgb": [3],
    "assignment/kernel": [1, 1, 16, 8],
    "cluster_centers": [1, 1, 1, 16, 8],
}
WHITENING = {"WPCA/kernel": [1, 1, 128, 16], "WPCA/bias": [16]}


@pytest.mark.parametrize(
    ("whitening", "expected"),
    [(16, CONVOLUTIONS | HEAD | WHITENING), (0, CONVOLUTIONS | HEAD)],
    ids=["white", "plain"],
)
def test_the_variables(tmp_path: Path, whitening: int, expected: dict[str, list[int]]) -> None:
    net = seeded(replace(SPEC, whitening=whitening), 4)
    netvlad_tf.write(net, tmp_path / "net")
    found = tf.train.load_checkpoint(str(tmp_path / "net"))
    shapes = found.get_variable_to_shape_map()
    assert shapes == {f"vgg16_netvlad_pca/{name}": shape for name, shape in expected.items()}
    for name, variable, shape in (
        (MEAN, "average_rgb", (1, 1, 3)),
        ("conv5_3/weights/0", "conv5_3/kernel", (3, 3, 16, 16)),
        ("vlad:core/weights/0", "assignment/kernel", (1, 1, 16, 8)),
        ("vlad:core/weights/1", "cluster_centers", (1, 1, 16, 8)),
    ):
        value = found.get_tensor(f"vgg16_netvlad_pca/{variable}")
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value.reshape(shape), net.tensors[name], err_msg=name)


def test_the_first_pixel_of_an_average_image(tmp_path: Path) -> None:
    net = mini()
    image = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    netvlad_tf.write(replace(net, tensors={**net.tensors, MEAN: image}), tmp_path / "net")
    found = tf.train.load_checkpoint(str(tmp_path / "net"))
    assert found.get_tensor("vgg16_netvlad_pca/average_rgb").tolist() == [0, 1, 2]


def test_the_same_bytes_each_time_and_nothing_beside_them(tmp_path: Path) -> None:
    digests = []
    for _ in range(2):
        netvlad_tf.write(mini(), tmp_path / "net")
        contents = [file.read_bytes() for file in netvlad_tf.files(tmp_path / "net")]
        digests.append([hashlib.sha256(content).hexdigest() for content in contents])
    assert digests[0] == digests[1]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"net.index", "net.data-00000-of-00001", "net.meta"}


def test_read_only_and_fortran_arrays_are_written_alike(tmp_path: Path) -> None:
    net = mini()
    frozen = {name: np.array(tensor, order="C") for name, tensor in net.tensors.items()}
    for tensor in frozen.values():
        tensor.flags.writeable = False
    netvlad_tf.write(net, tmp_path / "one")
    netvlad_tf.write(replace(net, tensors=frozen), tmp_path / "two")
    data = "data-00000-of-00001"
    assert (tmp_path / f"one.{data}").read_bytes() == (tmp_path / f"two.{data}").read_bytes()


def test_the_reader_gives_back_what_was_written(tmp_path: Path) -> None:
    net = mini()
    netvlad_tf.write(net, tmp_path / "net")
    found = reader.read(tmp_path / "net").tensors
    assert len(found) == 31
    kernel = found["vgg16_netvlad_pca/WPCA/kernel"]
    np.testing.assert_array_equal(kernel, net.tensors["WPCA/weights/0"])


def test_a_reference_net_becomes_the_reference_checkpoint(
    shared_data: Path, tmp_path: Path
) -> None:
    """One net as a .mat and as netvlad_tf_open's own code saved it: ours is the second."""
    pytest.importorskip("matio", reason="the reference file holds class objects")
    net = mat_reader.read(shared_data / "netvlad" / "vd16_white64_classes_v7.mat")
    netvlad_tf.write(net, tmp_path / "net")
    ours = tf.train.load_checkpoint(str(tmp_path / "net"))
    theirs = tf.train.load_checkpoint(str(shared_data / "netvlad" / "vd16_white64"))
    assert ours.get_variable_to_shape_map() == theirs.get_variable_to_shape_map()
    for name in theirs.get_variable_to_shape_map():
        np.testing.assert_array_equal(ours.get_tensor(name), theirs.get_tensor(name), err_msg=name)


def test_its_graph_gives_the_descriptor_of_their_own(shared_data: Path, tmp_path: Path) -> None:
    """netvlad_tf_open's `nets.py` ran on this image; the operations have its names."""
    pytest.importorskip("matio", reason="the reference file holds class objects")
    folder = shared_data / "netvlad"
    netvlad_tf.write(mat_reader.read(folder / "vd16_white64_classes_v7.mat"), tmp_path / "net")
    image = np.load(folder / "image_query_96x128.npy").astype(np.float32)
    tf1 = tf.compat.v1
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        saver = tf1.train.import_meta_graph(f"{tmp_path / 'net'}.meta")
        saver.restore(session, str(tmp_path / "net"))
        fed = {"Placeholder:0": image.reshape(-1, *image.shape[-3:])}
        found = session.run("vgg16_netvlad_pca/l2_normalize_1:0", fed)
    expected = np.load(folder / "tf1_upstream_descriptor_query_96x128.npy")
    assert np.linalg.norm(found - expected) < 1e-5
    assert set(NAMED.split()) <= {operation.name for operation in graph.get_operations()}


#: Of the graph that netvlad_tf_open's code makes in TensorFlow 1.
NAMED = """
    vgg16_netvlad_pca/sub vgg16_netvlad_pca/conv1_1/Relu vgg16_netvlad_pca/conv1_2/BiasAdd
    vgg16_netvlad_pca/max_pooling2d/MaxPool vgg16_netvlad_pca/Relu
    vgg16_netvlad_pca/max_pooling2d_3/MaxPool vgg16_netvlad_pca/Relu_3
    vgg16_netvlad_pca/l2_normalize vgg16_netvlad_pca/transpose vgg16_netvlad_pca/truediv
    vgg16_netvlad_pca/truediv_1 vgg16_netvlad_pca/flatten_1/Reshape
"""
