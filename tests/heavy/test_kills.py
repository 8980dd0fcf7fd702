"""A handful of what `nox -s kills` does at length."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its disks are Linux's")
@pytest.mark.timeout(1200)  # it waits for a dozen converts
def test_a_convert_killed_on_a_full_disk_and_twice_at_once(mini_mat: Path) -> None:
    command = [sys.executable, "tests/heavy/kills.py", "--formats", "h5"]
    command += ["--kills", "2", "--disks", "1", "--pairs", "1", "--source", str(mini_mat)]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = [line.partition(":")[0] for line in ran.stdout.splitlines()]
    assert list(dict.fromkeys(said)) == ["kills", "disks", "pairs"]
    assert ran.stdout.count("; 0 faults") == 3
