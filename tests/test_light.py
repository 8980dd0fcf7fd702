"""What works without TensorFlow, and what says that it does not."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from converters.__main__ import main

without_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is not None, reason="TensorFlow is installed; `nox -s light` runs this"
)


@without_tensorflow
def test_convert_says_what_to_install(
    mini_mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "--source", str(mini_mat), "--output", str(tmp_path / "out")]) == 2
    assert "pip install 'netvlad-keras[" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@without_tensorflow
def test_a_made_source_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETVLAD_KERAS_CACHE", str(tmp_path))
    assert main(["convert", "--source", "mini"]) == 2
    assert "pip install 'netvlad-keras[convert]'" in capsys.readouterr().err


def test_a_file_is_inspected(mini_mat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(mini_mat)]) == 0
    assert "WPCA" in capsys.readouterr().out
