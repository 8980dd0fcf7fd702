"""What the fuzzer found, read again: it must be refused, or give the weights of the good file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((Path(__file__).parent / "cases").glob("*/case.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.parent.name)
def test_a_finding_stays_mended(case: Path) -> None:
    facts = json.loads(case.read_text("utf-8"))
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-m", "fuzz.reader"],
        input=f"{case.parent / facts['opens']}\n",
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{facts['finding']}: {ran.stderr[-2000:]}"
    found = json.loads(ran.stdout)
    assert found["outcome"] in ("read", "refused"), f"{facts['finding']}: {found}"
    if facts["weights"]:
        assert found.get("weights", facts["weights"]) == facts["weights"], facts["finding"]
