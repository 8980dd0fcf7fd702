"""Public MatConvNet nets of other people: one command, and every layer is as MatConvNet has it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
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


Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def made(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder that the conversion of a net made, once for all tests; not to be changed."""
    folder = shared_data / "matconvnet"
    return functools.cache(
        lambda net: converted(folder / f"{net}.mat", tmp_path_factory.mktemp(net))
    )


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
def test_every_layer_is_matconvnet_s(net: str, shared_data: Path, made: Made) -> None:
    folder = made(net)
    entry, outputs = NETS[net]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [each["name"] for each in manifest["inputs"]] == [entry]
    assert [each["name"] for each in manifest["outputs"]] == outputs
    expected = goldens(shared_data / "matconvnet" / f"{net}.golden.npz")
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


def test_dcfnet_gives_what_its_authors_recorded(shared_data: Path, made: Made) -> None:
    x, *recorded = loadmat(shared_data / "matconvnet" / "DCFNet_recorded_outputs.mat")[
        "res"
    ].ravel()
    found = dict(open_artifact(made("DCFNet") / "model.onnx").run(x[None]))
    for name, right in zip(("conv1", "relu1", "conv2", "norm1"), recorded, strict=True):
        assert np.abs(found[name][0] - right).max() <= 2e-6 * np.abs(right).max(), name


def test_merged_batch_norms_are_their_authors_own(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "matconvnet"
    words = ["--merge-batchnorm", "--formats", "onnx"]
    ours = converted(folder / "DnCNN_sigma25_Bnorm.mat", tmp_path, *words)
    merged = open_artifact(ours / "model.onnx")
    right = matconvnet.read(folder / "DnCNN_sigma25.mat").tensors
    found = merged.weights()
    compared = 0
    for name, values in right.items():
        layer, _, number = name.split("/")
        mine = found[f"{layer}/{('kernel', 'bias')[int(number)]}"]
        assert np.abs(mine - values).max() <= 2e-7 * np.abs(values).max(), name
        compared += 1
    assert compared == len(found) == 34
    expected = goldens(folder / "DnCNN_sigma25.golden.npz")
    images = expected.pop("input")
    error = np.abs(dict(merged.run(images))["layer48"] - expected["layer48"]).max()
    assert error <= 2e-6 * np.abs(expected["layer48"]).max()
