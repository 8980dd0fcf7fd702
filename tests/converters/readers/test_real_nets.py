"""Real nets and MatConvNet's class objects, against each other and their authors' records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from converters.checkpoint import MEAN, Checkpoint, Layer
from converters.errors import LayerError, ReadError
from converters.readers.matconvnet import read


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    """The same tensors bit for bit, layers and preprocessing."""
    return (
        one.layers == other.layers
        and one.preprocessing == other.preprocessing
        and one.tensors.keys() == other.tensors.keys()
        and all(
            one.tensors[name].dtype == other.tensors[name].dtype
            and one.tensors[name].shape == other.tensors[name].shape
            and one.tensors[name].tobytes() == other.tensors[name].tobytes()
            for name in one.tensors
        )
    )


CLASS_FILES = ["fw2_v7", "fw2_v73", "fw3_v7", "fw4_v7", "fw4_v73"]


@pytest.mark.parametrize("name", CLASS_FILES)
def test_class_objects_equal_structs(shared_data: Path, name: str) -> None:
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    expected = read(shared_data / "fixtures/vgg_struct.mat")
    assert len(expected.layers) == 12
    assert equal(read(shared_data / f"fixtures/vgg_mcosdef_{name}.mat"), expected)


@pytest.mark.parametrize("kind", ["layerTotalMaxPool", "layerTotalAvgPool"])
def test_total_pooling(shared_data: Path, kind: str) -> None:
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    found = read(shared_data / f"fixtures/{kind}_fw3_v7.mat").layers[-2:]
    assert [(layer.name, layer.kind) for layer in found] == [
        (f"{kind[10:13].lower()}:core", kind),
        ("postL2", "layerWholeL2Normalize"),
    ]


def test_groups_and_uneven_pads(shared_data: Path) -> None:
    found = read(shared_data / "fixtures/caffe_struct.mat")
    layers = {layer.name: layer for layer in found.layers}
    assert found.tensors["conv2/weights/0"].shape == (5, 5, 6, 16)
    assert found.tensors["WPCA/weights/1"].shape == (10,)
    assert layers["pool1"].options["pad"] == (0, 1, 0, 1)
    assert layers["conv1"].options["stride"] == (4, 4)
    assert found.origin.session == "caffe_tokyoTM_conv5_vlad_preL2_intra_white"


def test_dncnn_is_one_net_before_and_after_merging(shared_data: Path) -> None:
    merged = read(shared_data / "matconvnet/DnCNN_sigma25.mat")
    before = read(shared_data / "matconvnet/DnCNN_sigma25_Bnorm.mat")
    convs = [layer.name for layer in merged.layers if layer.kind == "conv"]
    assert convs == [layer.name for layer in before.layers if layer.kind == "conv"]
    assert before.tensors["layer4/weights/2"].shape == (64, 2)
    assert before.tensors["layer48/weights/0"].shape == (3, 3, 64, 1)
    assert before.origin.notes == ("left out: layer49, a loss",)


def test_dcfnet_holds_its_authors_weights(shared_data: Path) -> None:
    found = read(shared_data / "matconvnet/DCFNet.mat")
    recorded = scipy.io.loadmat(shared_data / "matconvnet/DCFNet_recorded_outputs.mat")
    for name in ("conv1", "conv2"):
        np.testing.assert_array_equal(found.tensors[f"{name}/weights/0"], recorded[f"{name}_w"])
        np.testing.assert_array_equal(
            found.tensors[f"{name}/weights/1"], recorded[f"{name}_b"].ravel()
        )
    assert found.layers[-1].kind == "normalize"
    assert found.tensors[MEAN].ravel().tolist() == pytest.approx([123, 117, 104], abs=0.5)


def test_lapsrn(shared_data: Path) -> None:
    found = read(shared_data / "matconvnet/LapSRN_x2.mat")
    layers = {layer.name: layer for layer in found.layers}
    assert len(layers) == 27
    assert layers["input_conv"] == Layer(
        "input_conv",
        "conv",
        ("LR",),
        ("input_conv_f", "input_conv_b"),
        {"pad": (1, 1, 1, 1), "stride": (1, 1), "dilate": (1, 1)},
        "input_conv",
    )
    assert layers["input_relu"].options == {"leak": 0.2}
    assert layers["level1_img_up"] == Layer(
        "level1_img_up",
        "convt",
        ("LR",),
        ("level1_img_up_f",),
        {"crop": (1, 1, 1, 1), "upsample": (2, 2), "numGroups": 1},
        "level1_img_up",
    )
    assert found.layers[-1] == Layer(
        "level1_output", "sum", ("level1_img_up", "level1_residual"), (), {}, "level1_output"
    )
    shapes = {name: tensor.shape for name, tensor in found.tensors.items()}
    assert len(shapes) == 27
    assert shapes["level1_img_up_f"] == (4, 4, 1, 1)
    assert shapes["level1_residual_conv_f"] == (3, 3, 64, 1)
    assert shapes["level1_residual_conv_b"] == (1,)
    assert found.origin.notes == (
        "left out: level1_L1_loss, a vllab_dag_loss, and level1_HR, which only a loss reads",
    )


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("empty.mat", ReadError),
        ("text.mat", ReadError),
        ("hdr_only.mat", ReadError),
        ("ok.mat", ReadError),  # a good file, with no net in it
        ("struct_dupfields.mat", ReadError),
        ("h5_link.mat", ReadError),
        ("flip001_vgg_struct.mat", ReadError),
        ("flip004_vgg_mcos_saveobj_v73.mat", ReadError),
        ("trunc0.9_vgg_mcos_saveobj_v73.mat", ReadError),
        ("trunc0.999_vgg_struct.mat", ReadError),
        ("trunc0.999_vgg_mcos_saveobj_v7.mat", LayerError),
        ("flip006_vgg_mcos_saveobj_v73.mat", LayerError),
    ],
)
def test_hostile(shared_data: Path, name: str, error: type[ReadError | LayerError]) -> None:
    if error is LayerError:
        pytest.importorskip("matio", reason="mat-io decodes class objects")
    with pytest.raises(error):
        read(shared_data / "hostile" / name)
