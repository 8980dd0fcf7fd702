"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# TensorFlow reads these at import; oneDNN's kernels round differently.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real nets and MatConvNet's own outputs, if it lies beside the project."""
    if not _DATA.is_dir():
        pytest.skip("../shared/data is not here: it holds the real nets and reference outputs")
    return _DATA.resolve()
