"""`netvlad-convert` as people type it: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from converters.__main__ import main
from converters.mini import mini


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
    assert found["output"]["shape"] == ["batch", 7]


def test_inspect_says_what_is_in_a_file(mini_mat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(mini_mat)]) == 0
    said = capsys.readouterr().out
    for text in ("conv5_3", "vlad:core", "layerWholeL2Normalize", "1×1×128×16", "from 16 px"):
        assert text in said


def test_inspect_json_has_a_checksum_for_each_tensor(
    mini_mat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    assert main(["inspect", str(mini_mat), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tensors = mini().tensors
    assert found["tensors"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        content = np.ascontiguousarray(tensor).tobytes()
        assert found["tensors"][name]["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["spec"]["dimension"] == 16
    assert found["mean"] == pytest.approx([123.68, 116.779, 103.939])


def test_sources_lists_the_default_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names[0] == "offtheshelf"
    assert {"mini", "pitts30k", "tokyotm"} <= set(names)


REFUSED = {
    "no such file": (["inspect", "nowhere.mat"], 1, "nowhere.mat"),
    "no such source": (["convert", "--source", "pitts31k"], 1, "pitts30k"),
    "no such format": (["convert", "--source", "FILE", "--formats", "caffe"], 1, "savedmodel"),
    "no such crop": (["convert", "--source", "FILE", "--dim", "99"], 1, "99 of 16"),
    "not writable": (["convert", "--source", "FILE", "--output", "FILE"], 2, "cannot be written"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_has_its_exit_code_and_says_why(
    case: str,
    mini_mat: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, code, reason = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    arguments = [str(mini_mat) if word == "FILE" else word for word in arguments]
    assert main(arguments) == code
    assert reason in capsys.readouterr().err
    assert main([*arguments, "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit"] == code
    assert reason in answer["message"]


@pytest.mark.parametrize("size", ["480", "axb", "480x640x1x2", "0x640"])
def test_a_size_is_height_by_width(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert", "--fix-size", size])
    assert caught.value.code == 2
    assert "480x640" in capsys.readouterr().err
