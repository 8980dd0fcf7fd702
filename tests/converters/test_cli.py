"""`netvlad-convert` as people type it: what it prints and how it ends."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from converters.__main__ import main
from converters.mini import mini


def test_inspect_says_what_is_in_a_file(mini_mat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(mini_mat)]) == 0
    said = capsys.readouterr().out
    for text in ("conv5_3", "vlad:core", "layerWholeL2Normalize", "1×1×128×16", "from 16 px"):
        assert text in said


def test_inspect_json_has_a_checksum_for_each_tensor(
    mini_mat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    "not a weights file": (["inspect", "."], 1, "checkpoint"),
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
