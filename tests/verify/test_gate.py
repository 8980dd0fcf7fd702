"""Rankings of images within a report: who ranks alike, and who does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from converters.__main__ import main as convert
from verify import regimes
from verify.__main__ import main


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(regimes.photograph(48, 64, seed=seed)[0]).save(folder / f"{seed}.png")
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def report(folder: Path) -> Any:
    return json.loads((folder / "report" / "report.json").read_text("utf-8"))


def shaken(source: Path, target: Path, tensor: str) -> Path:
    """The same file with one tensor drawn anew."""
    model = onnx.load(source)
    (kept,) = (each for each in model.graph.initializer if each.name == tensor)
    values = onnx.numpy_helper.to_array(kept)
    other = np.random.default_rng(1).permutation(values.ravel()).reshape(values.shape)
    kept.CopyFrom(onnx.numpy_helper.from_array(other, tensor))
    onnx.save(model, target)
    return target


def test_artifacts_that_rank_alike(
    mini_artifacts: Path, mini_mat: Path, pictures: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    paths = [str(mini_artifacts / name) for name in ("model.onnx", "saved_model")]
    words = ["check", "--reference", str(mini_mat), *paths, "--inputs", "black"]
    folders = ["--database", str(pictures), "--queries", str(pictures)]
    assert main([*words, *folders, "--report", str(tmp_path)]) == 0
    found = report(tmp_path)
    (row,) = found["rankings"]
    assert (row["images"], row["queries"], row["k"]) == (6, 6, 10)
    assert row["artifact"].endswith("saved_model")
    assert row["against"].endswith("model.onnx")
    assert (row["top1"], row["topk"], row["passed"]) == (1.0, 1.0, True)
    assert 0 < row["max_l2"] < 1e-5
    assert list(row["broken"]) == ["cut.jpg"]
    assert "6 queries ranked" in found["verdict"]["sentence"]
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "✓ alike" in page
    assert "cut.jpg" in page
    assert "L2 up to" in capsys.readouterr().out


def test_a_file_in_float16_is_allowed_what_float16_costs(
    mini_mat: Path, pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow", reason="it makes the artifacts")
    words = ["convert", "--source", str(mini_mat), "--output", str(tmp_path / "made"), "--half"]
    assert convert([*words, "--formats", "onnx"]) == 0
    folder = tmp_path / "made" / "mini"
    words = ["check", str(folder), "--inputs", "black", "--database", str(pictures)]
    assert main([*words, "--queries", str(pictures)]) == 0
    (row,) = report(folder)["rankings"]
    assert (row["artifact"], row["limit"]) == ("model_fp16.onnx", 0.0141)
    assert 1e-6 < row["max_l2"] < row["limit"]


def test_one_that_ranks_otherwise_fails_by_that_too(
    mini_artifacts: Path, mini_mat: Path, pictures: Path, tmp_path: Path
) -> None:
    right = mini_artifacts / "model.onnx"
    wrong = shaken(right, tmp_path / "wrong.onnx", "WPCA/kernel")
    words = ["check", "--reference", str(mini_mat), str(right), str(wrong), "--inputs", "black"]
    folders = ["--database", str(pictures), "--queries", str(pictures)]
    assert main([*words, *folders, "--report", str(tmp_path)]) == 1
    (row,) = report(tmp_path)["rankings"]
    assert row["passed"] is False
    assert row["max_l2"] > 0.1
    junit = (tmp_path / "report" / "report.xml").read_text("utf-8")
    assert 'type="ranking"' in junit
    assert "| rankings |" in (tmp_path / "report" / "report.md").read_text("utf-8")


def test_one_folder_alone_and_one_artifact_alone_are_refused(
    mini_artifacts: Path, mini_mat: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "--reference", str(mini_mat), str(mini_artifacts / "model.onnx")]
    assert main([*words, "--database", str(pictures)]) == 2
    assert "go together" in capsys.readouterr().err
    folders = ["--database", str(pictures), "--queries", str(pictures)]
    assert main([*words, "--inputs", "black", *folders]) == 2
    assert "there is one that describes images" in capsys.readouterr().err
