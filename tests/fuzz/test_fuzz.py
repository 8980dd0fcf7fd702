"""A short seeded run of the fuzzer over every reader; `nox -s fuzz` has long ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 330
KINDS = (
    "hloc keras keras_h5 keras_weights mat_v5 mat_v5_zlib mat_v73 mat_v73_zlib onnx "
    "tf_data tf_index"
).split()


@pytest.mark.timeout(1200)  # on a machine that has much else to do
def test_a_few_hundred_mutated_inputs(mini_artifacts: Path, tmp_path: Path) -> None:
    from converters.mini import mini

    for name in ("model.h5", "model.weights.h5", "model.keras", "model.onnx"):
        shutil.copy(mini_artifacts / name, tmp_path)
    import_module("converters.writers.sources.netvlad_tf").write(
        mini(), tmp_path / "checkpoint" / "mini"
    )
    command = [sys.executable, "-m", "fuzz", "--count", str(INPUTS), "--artifacts", str(tmp_path)]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    ran = subprocess.run(
        command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = ran.stdout.splitlines()
    assert said[0].startswith(f"{INPUTS} inputs of {len(KINDS)} kinds")
    assert [line.split()[0] for line in said[1 : len(KINDS) + 1]] == KINDS
    assert all(" refused" in line for line in said[1 : len(KINDS) + 1])
    assert "other weights" not in said[len(KINDS) + 1]  # where a checksum guards
    assert said[-1] == "0 findings"
