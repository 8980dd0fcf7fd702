"""The way back through its own door: what is refused, what is put in place, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from converters import formats
from converters.__main__ import main
from converters.back import back
from converters.checkpoint import MEAN
from converters.errors import ConversionError, EnvironmentFailure, LayerError
from converters.mini import SPEC, mini, seeded
from converters.original import original
from converters.writers.sources import hloc_safetensors, matconvnet
from netvlad_keras.spec import NetVLADSpec

pytest.importorskip("safetensors", reason="two of the formats are read with it")


def test_the_commands_formats_are_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["back", "--help"])
    assert f"--to {{{','.join(formats.BACK)}}}" in capsys.readouterr().out


# --- what is refused ------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, str, type[ConversionError], str]] = {
    "unknown format": ("onnx", "n.onnx", ConversionError, "formats are mat, tf, hloc"),
    "wrong ending": ("hloc", "n.pt", ConversionError, "ends with .safetensors"),
    "taken": ("mat", "taken.mat", EnvironmentFailure, "is there already"),
    "taken prefix": ("tf", "taken", EnvironmentFailure, "taken.index is there already"),
    "sizes": ("hloc", "n.safetensors", LayerError, "WPCA: has 16 outputs, hloc's NetVLAD builds"),
    "not a folder": ("mat", "taken.mat/n.mat", EnvironmentFailure, "cannot be written"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_nothing_is_left(tmp_path: Path, mini_mat: Path, case: str) -> None:
    target, output, kind, reason = REFUSED[case]
    for name in ("taken.mat", "taken.index"):
        (tmp_path / name).write_bytes(b"old")
    if target == "tf":
        pytest.importorskip("tensorflow", reason="it writes the format")
    with pytest.raises(kind, match=reason):
        back(mini_mat, target, tmp_path / output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.index", "taken.mat"]
    assert (tmp_path / "taken.mat").read_bytes() == b"old"


def test_every_size_that_the_programs_code_does_not_build(tmp_path: Path) -> None:
    spec = replace(NetVLADSpec.from_name("vd16_x_conv5_3_vlad_preL2_intra"), clusters=2)
    net = seeded(spec, 1)
    matconvnet.write(net, tmp_path / "n.mat")
    with pytest.raises(LayerError) as caught:
        back(tmp_path / "n.mat", "hloc", tmp_path / "n.safetensors")
    assert caught.value.faults == {"vlad:core": "has 2 outputs, hloc's NetVLAD builds 64"}
    assert "--any-size" in str(caught.value)
    written = back(tmp_path / "n.mat", "pytorch-netvlad", tmp_path / "n.safetensors")
    assert written.tensors == 29


def test_netvlad_tf_open_always_builds_a_whitening(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="it writes the format")
    matconvnet.write(seeded(replace(SPEC, whitening=0), 1), tmp_path / "n.mat")
    with pytest.raises(LayerError) as caught:
        back(tmp_path / "n.mat", "tf", tmp_path / "n")
    assert "always builds it" in caught.value.faults["WPCA"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, mini_mat: Path) -> None:
    """A limit on the size of files stands for the disk that is full."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(EnvironmentFailure, match="File too large"):
            back(mini_mat, "hloc", tmp_path / "n.safetensors", any_size=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


# --- what is put in place -------------------------------------------------------------------


def test_a_mat_is_read_as_hloc_and_netvlad_tf_open_read_it(tmp_path: Path) -> None:
    """They load with `squeeze_me`, and take pixel [0, 0] and layers 30 and 33 by their places."""
    net = mini()
    hloc_safetensors.write(net, tmp_path / "n.safetensors")
    written = back(tmp_path / "n.safetensors", "mat", tmp_path / "n.mat")
    assert written.files == (tmp_path / "n.mat",)
    assert written.tensors == 31
    assert [remark.split()[0] for remark in written.remarks] == ["averageImage", "NetVLAD's"]
    content: Any = scipy.io.loadmat(tmp_path / "n.mat", struct_as_record=False, squeeze_me=True)
    layers = content["net"].layers
    mean = content["net"].meta.normalization.averageImage
    assert mean.shape == (224, 224, 3)
    np.testing.assert_array_equal(mean[0, 0], net.tensors[MEAN][0, 0])
    assert layers[30].weights[0].shape == (16, 8)
    assert (layers[30].K, layers[30].name) == (8, "vlad:core")
    assert layers[33].weights[0].shape == (128, 16)
    np.testing.assert_array_equal(layers[0].weights[1], net.tensors["conv1_1/weights/1"])


def test_double_precision_is_rounded_and_it_is_said(tmp_path: Path) -> None:
    net = mini()
    name = "conv1_1/weights/1"
    tensors = {**net.tensors, name: net.tensors[name].astype(np.float64) + 1e-12}
    matconvnet.write(replace(net, tensors=tensors), tmp_path / "n.mat")
    written = back(tmp_path / "n.mat", "hloc", tmp_path / "n.safetensors", any_size=True)
    assert written.remarks == (f"rounded to float32: {name}",)
    found = original(formats.read(tmp_path / "n.safetensors")).tensors[name]
    np.testing.assert_array_equal(found, tensors[name].astype(np.float32))


def test_the_command_says_what_it_read_back(
    tmp_path: Path, mini_mat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "n.safetensors"
    words = ["back", "--source", str(mini_mat), "--to", "hloc", "--output", str(output)]
    assert main([*words, "--any-size"]) == 0
    assert "read back: 31 tensors, the same bit for bit" in capsys.readouterr().out
    assert main([*words, "--any-size", "--json"]) == 2
    assert "is there already" in json.loads(capsys.readouterr().out)["message"]
    output.unlink()
    assert main([*words, "--any-size", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [str(output)]
    assert said["read_back"] == 31


# --- from Keras and to TensorFlow -----------------------------------------------------------


@pytest.mark.parametrize("artifact", ["model.keras", "model.h5"])
def test_a_trained_keras_model_goes_back_to_netvlad_tf_open(
    tmp_path: Path, request: pytest.FixtureRequest, artifact: str
) -> None:
    tf = pytest.importorskip("tensorflow", reason="it writes the format")
    keras = pytest.importorskip("keras")
    from netvlad_keras import NetVLADModel

    folder: Path = request.getfixturevalue("mini_artifacts")
    model = keras.saving.load_model(folder / artifact)
    assert isinstance(model, NetVLADModel)
    trained = model.get_layer("conv5_3").kernel
    trained.assign(trained + 0.25)
    model.save(tmp_path / artifact)
    output = tmp_path / "net"
    if artifact == "model.h5":
        written = back(tmp_path / artifact, "mat", tmp_path / "net.mat")
        found = formats.read(tmp_path / "net.mat").tensors["conv5_3/weights/0"]
    else:
        written = back(tmp_path / artifact, "tf", output, any_size=True)
        names = ["net.data-00000-of-00001", "net.meta", "net.index"]
        assert [file.name for file in written.files] == names
        variables = tf.train.load_checkpoint(str(output))
        found = variables.get_tensor("vgg16_netvlad_pca/conv5_3/kernel")
    assert written.tensors == 31
    np.testing.assert_array_equal(found, np.asarray(trained))
