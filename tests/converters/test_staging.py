"""The old folder or the new one stands under the name, whole, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from converters import staging
from converters.errors import EnvironmentFailure


def make(folder: Path, text: str) -> None:
    with staging.replacing(folder) as building:
        (building / "file").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_folder_is_made_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "net"
    make(target, "old")
    make(target, "new")
    assert (target / "file").read_text() == "new"
    assert names(target.parent) == ["net"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "net"
    make(target, "old")
    with pytest.raises(ZeroDivisionError), staging.replacing(target) as building:
        (building / "file").write_text(str(1 / 0))
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["net"]


def test_without_renameat2_the_result_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    make(tmp_path / "net", "old")
    make(tmp_path / "net", "new")
    assert (tmp_path / "net" / "file").read_text() == "new"
    assert names(tmp_path) == ["net"]


def test_a_retired_folder_without_successor_comes_back(tmp_path: Path) -> None:
    make(tmp_path / "net", "old")
    (tmp_path / "net").rename(tmp_path / ".net.retired")
    with pytest.raises(ZeroDivisionError), staging.replacing(tmp_path / "net"):
        _ = 1 / 0
    assert (tmp_path / "net" / "file").read_text() == "old"
    assert names(tmp_path) == ["net"]


def test_a_killed_run_leaves_the_old_folder_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "net"
    make(target, "old")
    program = f"""
        import os, signal
        from pathlib import Path
        from converters import staging
        with staging.replacing(Path({str(target)!r})) as building:
            (building / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert (target / "file").read_text() == "old"
    assert len(names(tmp_path)) == 2
    make(target, "new")
    assert (target / "file").read_text() == "new"
    assert names(tmp_path) == ["net"]


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        make(tmp_path / "file" / "net", "new")
