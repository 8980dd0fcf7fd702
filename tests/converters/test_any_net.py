"""Public MatConvNet nets of other people, converted in one command, against MatConvNet's outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat

from converters.__main__ import main
from converters.readers import matconvnet
from verify.formats import open_artifact

FORMATS = ("model.onnx", "model.keras", "model.h5", "saved_model")
#: File -> the net's input and outputs, by the source's names.
NETS = {
    "DCFNet": ("input", ["norm1"]),
    "DnCNN_sigma25": ("input", ["layer48"]),
    "DnCNN_sigma25_Bnorm": ("input", ["layer48"]),
    "LapSRN_x2": ("LR", ["level1_output"]),
}


def converted(source: Path, output: Path, *words: str) -> Path:
    assert main(["convert", "--source", str(source), "--output", str(output), *words]) == 0
    (folder,) = output.glob("[!.]*")
    return folder


def goldens(path: Path) -> dict[str, Any]:
    """MatConvNet's outputs as N×H×W×C; the first is the input."""
    with np.load(path, allow_pickle=False) as archive:
        found = {key.split("|", 1)[1]: archive[key] for key in archive.files}
    return {name: y.reshape(1, *y.shape[:2], -1) for name, y in found.items()}


@pytest.mark.parametrize("net", NETS)
def test_every_layer_is_matconvnet_s(net: str, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "matconvnet" / f"{net}.mat"
    folder = converted(source, tmp_path)
    entry, outputs = NETS[net]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [each["name"] for each in manifest["inputs"]] == [entry]
    assert [each["name"] for each in manifest["outputs"]] == outputs
    expected = goldens(source.with_name(f"{net}.golden.npz"))
    images = expected.pop(next(iter(expected)))
    for name in FORMATS:
        runner = open_artifact(folder / name)
        found = {layer: y for layer, y in runner.run(images) if layer in expected}
        assert found.keys() == expected.keys(), name
        found |= {f"{layer} deployed": y for layer, y in runner.deployed(images).items()}
        for layer, y in found.items():
            right = expected[layer.removesuffix(" deployed")]
            error = np.abs(y.reshape(right.shape) - right).max() / np.abs(right).max()
            assert error <= 2e-6, (name, layer, error)


def test_dcfnet_gives_what_its_authors_recorded(shared_data: Path, tmp_path: Path) -> None:
    folder = converted(shared_data / "matconvnet" / "DCFNet.mat", tmp_path, "--formats", "onnx")
    x, *recorded = loadmat(shared_data / "matconvnet" / "DCFNet_recorded_outputs.mat")[
        "res"
    ].ravel()
    found = dict(open_artifact(folder / "model.onnx").run(x[None]))
    for name, right in zip(("conv1", "relu1", "conv2", "norm1"), recorded, strict=True):
        assert np.abs(found[name][0] - right).max() <= 2e-6 * np.abs(right).max(), name


def test_merged_batch_norms_are_their_authors_own(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "matconvnet"
    ours = converted(folder / "DnCNN_sigma25_Bnorm.mat", tmp_path, "--merge-batchnorm")
    right = matconvnet.read(folder / "DnCNN_sigma25.mat").tensors
    found = open_artifact(ours / "model.onnx").weights()
    compared = 0
    for name, values in right.items():
        layer, _, number = name.split("/")
        mine = found[f"{layer}/{('kernel', 'bias')[int(number)]}"]
        assert np.abs(mine - values).max() <= 2e-7 * np.abs(values).max(), name
        compared += 1
    assert compared == len(found) == 34
    expected = goldens(folder / "DnCNN_sigma25.golden.npz")
    images = expected.pop("input")
    for name in FORMATS:
        outputs = dict(open_artifact(ours / name).run(images))
        error = np.abs(outputs["layer48"] - expected["layer48"]).max()
        assert error <= 2e-6 * np.abs(expected["layer48"]).max(), name
