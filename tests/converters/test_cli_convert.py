"""`netvlad-convert convert` as people type it. Needs TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converters.__main__ import main


def test_convert_makes_a_folder_named_after_the_file(
    mini_mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", "--source", str(mini_mat), "--output", str(tmp_path)]
    assert main([*arguments, "--formats", "weights"]) == 0
    said = capsys.readouterr()
    assert "model.weights.h5" in said.out
    steps = said.err.splitlines()
    assert steps[0] == "read mini.mat"
    assert steps.index("write model.weights.h5") < steps.index("manifest.json, MODEL_CARD.md")
    manifest = json.loads((tmp_path / "mini" / "manifest.json").read_text())
    assert manifest["name"] == "mini"


def test_json_is_all_that_is_printed(
    mini_mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", "--source", str(mini_mat), "--output", str(tmp_path), "--json"]
    assert main([*arguments, "--formats", "weights", "--name", "other", "--dim", "7"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert found["folder"] == str(tmp_path / "other_dim7")
    assert found["outputs"][0]["shape"] == ["batch", 7]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [(["--dim", "99"], 1, "99 of 16"), (["--output", "FILE"], 2, "cannot be written")],
)
def test_a_refusal_has_its_exit_code(
    arguments: list[str],
    code: int,
    reason: str,
    mini_mat: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [str(mini_mat) if word == "FILE" else word for word in arguments]
    assert main(["convert", "--source", str(mini_mat), *arguments]) == code
    assert reason in capsys.readouterr().err
