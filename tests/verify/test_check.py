"""`netvlad-verify` as people type it, on what a conversion made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from verify.__main__ import main


@pytest.fixture
def folder(mini_artifacts: Path, mini_mat: Path, tmp_path: Path) -> Path:
    """A conversion's folder with its ONNX file alone, the source where the manifest says."""
    made = tmp_path / "artifacts" / "mini"
    made.mkdir(parents=True)
    shutil.copy(mini_mat, tmp_path / "mini.mat")
    manifest = json.loads((mini_artifacts / "manifest.json").read_text())
    manifest["files"] = {"model.onnx": manifest["files"]["model.onnx"]}
    manifest["source"]["files"][0]["path"] = "../../mini.mat"
    (made / "manifest.json").write_text(json.dumps(manifest))
    shutil.copy(mini_artifacts / "model.onnx", made)
    return made


def test_a_faithful_folder_passes_and_leaves_reports(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder.parent), "--inputs", "photograph"]) == 0
    assert "no difference" in capsys.readouterr().out
    names = {path.name for path in (folder / "report").iterdir()}
    assert names == {"report.html", "report.json", "report.xml", "report.md"}
    assert json.loads((folder / "report" / "report.json").read_text())["verdict"]["passed"] is True


def test_another_net_s_file_fails_by_layer_and_checksum(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx")
    kernel = next(t for t in model.graph.initializer if t.name == "conv2_1/kernel")
    values = onnx.numpy_helper.to_array(kernel).copy()
    values[3, 2, 1, 0] *= 1.5
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    onnx.save(model, folder / "model.onnx")
    assert main(["check", str(folder), "--inputs", "photograph"]) == 1
    verdict = json.loads((folder / "report" / "report.json").read_text())["verdict"]
    assert verdict["passed"] is False
    assert verdict["first_bad_layer"] == "conv2_1"
    assert verdict["tensor"] == "conv2_1/kernel"
    assert "model.onnx" in capsys.readouterr().out
    kept = folder / "report" / "repro" / "model.onnx-conv2_1"
    assert (kept / "model.onnx").is_file()
    found = onnx.load_tensor(kept / "test_data_set_0" / "found_0.pb")
    expected = onnx.load_tensor(kept / "test_data_set_0" / "output_0.pb")
    assert found.dims == expected.dims
    assert found.raw_data != expected.raw_data


def test_without_its_source_nothing_can_be_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mini.mat").unlink()
    assert main([str(folder)]) == 2
    assert "mini.mat" in capsys.readouterr().err
    assert not (folder / "report").exists()


def test_artifacts_of_any_origin(mini_artifacts: Path, mini_mat: Path, tmp_path: Path) -> None:
    artifact = str(mini_artifacts / "model.onnx")
    words = ["check", "--reference", str(mini_mat), artifact, "--inputs", "photograph"]
    assert main([*words, "--report", str(tmp_path)]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("rtol", "code", "said"), [("1e-4", 0, "the same within"), ("1e-12", 1, "different: first at")]
)
def test_two_artifacts_without_a_source(
    rtol: str,
    code: int,
    said: str,
    mini_artifacts: Path,
    mini_mat: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["diff", str(mini_mat), str(mini_artifacts / "model.onnx"), "--rtol", rtol]
    assert main(words) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("words", [["nowhere"], ["check", "--reference", "no.mat", "no.onnx"]])
def test_what_is_not_there_cannot_be_compared(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("netvlad-verify: ")
