"""`examples/train_small.py`, with few places: it goes on after a stop to the same net."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="the training needs it")
pytest.importorskip("skimage", reason="its pictures are trained on")


def test_it_goes_on_to_the_same_weights(
    example: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main = example("train_small")["main"]

    def run(folder: str, *more: str) -> str:
        words = ["--out", str(tmp_path / folder), "--places", "30", "--epochs", "4", *more]
        monkeypatch.setattr(sys, "argv", ["train_small.py", *words])
        main()
        return capsys.readouterr().out

    whole = run("whole")
    assert "train: 30 places, val: 30 places, test: 30 places" in whole
    assert "held-out views, chance 3.33 %:" in whole
    found = re.findall(r"(starting net|trained) +recall@1 ([0-9.]+) %", whole)
    assert [name for name, _ in found] == ["starting net", "trained"]
    part = run("part", "--stop-after", "2")
    assert "weights after epoch 2: sha256" in part
    assert "held-out" not in part
    assert run("part") == whole
