"""What people download."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from converters.errors import ConversionError, EnvironmentFailure
from converters.release import lay_out, main


@pytest.fixture(scope="module")
def artifacts(mini_artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(mini_artifacts, folder / "mini")
    return folder


def test_the_release_holds_every_format_with_test_data_and_sums(artifacts: Path) -> None:
    folder = lay_out(artifacts) / "mini"
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        "MODEL_CARD.md",
        "SHA256SUMS",
        "manifest.json",
        "mini-opset18.onnx",
        "mini-saved_model.zip",
        "mini.h5",
        "mini.keras",
        "mini.weights.h5",
        "reference.npz",
        "test_data_set_0/input_0.pb",
        "test_data_set_0/output_0.pb",
    ]
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == len(files) - 1


def test_the_page_and_the_sums_have_a_sum_of_their_own(artifacts: Path) -> None:
    folder = lay_out(artifacts, proof=False)
    names = []
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        names.append(name)
    assert names == ["index.html", "mini/SHA256SUMS"]
    page = (folder / "index.html").read_text("utf-8")
    digest = hashlib.sha256((folder / "mini" / "mini.keras").read_bytes()).hexdigest()
    assert digest in page
    assert "There is no report" in page


def test_without_a_network_the_page_has_no_try_out(
    artifacts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NETVLAD_KERAS_CACHE", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    arguments = ["--artifacts", str(artifacts), "--no-reference"]
    assert main(arguments) == 0
    assert "index.html has no try-out: onnxruntime-web" in capsys.readouterr().err
    assert "made without the try-out" in (artifacts / "release" / "index.html").read_text("utf-8")
    assert main([*arguments, "--no-try-out"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["../mini", "a/b", "", "a\nb"])
def test_a_name_that_leaves_its_folder_is_refused(
    artifacts: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(artifacts / "mini", tmp_path / "mini")
    path = tmp_path / "mini" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name}))
    with pytest.raises(ConversionError, match="cannot be part of a file's name"):
        lay_out(tmp_path, proof=False)
    assert not (tmp_path / "release").exists()


def test_the_test_data_are_the_model_s(artifacts: Path) -> None:
    folder = lay_out(artifacts, ["mini"]) / "mini"
    arrays = {}
    for name in ("input", "output"):
        tensor = onnx.load_tensor(folder / "test_data_set_0" / f"{name}_0.pb")
        arrays[tensor.name] = onnx.numpy_helper.to_array(tensor)
    assert np.ptp(arrays["image"]) > 200
    session = onnxruntime.InferenceSession(folder / "mini-opset18.onnx")
    (found,) = session.run(["descriptor"], {"image": arrays["image"]})
    np.testing.assert_allclose(found, arrays["descriptor"], atol=1e-6)


def test_the_saved_model_is_whole(artifacts: Path) -> None:
    folder = lay_out(artifacts) / "mini"
    with zipfile.ZipFile(folder / "mini-saved_model.zip") as archive:
        names = archive.namelist()
        assert "saved_model/variables/variables.index" in names
        original = artifacts / "mini" / "saved_model" / "saved_model.pb"
        assert archive.read("saved_model/saved_model.pb") == original.read_bytes()


def test_a_changed_file_is_not_released(artifacts: Path, tmp_path: Path) -> None:
    shutil.copytree(artifacts / "mini", tmp_path / "mini")
    with (tmp_path / "mini" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ConversionError, match=r"model\.onnx"):
        lay_out(tmp_path)
    assert not (tmp_path / "release").exists()


def test_a_release_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="nox -s convert"):
        lay_out(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text(json.dumps({}))
    with pytest.raises(ConversionError, match="holds no mini"):
        lay_out(tmp_path, ["mini"])
