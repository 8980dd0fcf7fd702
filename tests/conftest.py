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
def mini_mat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeded small net as a MatConvNet file."""
    from converters.mini import mini
    from converters.writers.sources import matconvnet

    path = tmp_path_factory.mktemp("mini") / "mini.mat"
    matconvnet.write(mini(), path)
    return path


@pytest.fixture(scope="session")
def mini_artifacts(mini_mat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a conversion made of `mini_mat`, all formats; not to be changed."""
    pytest.importorskip("tensorflow", reason="it makes the artifacts")
    from converters.convert import DEFAULT_FORMATS, Request, convert
    from converters.sources import SourceFiles

    source = SourceFiles("mini", (mini_mat,), "MIT", "cite it", "a notice")
    output = tmp_path_factory.mktemp("artifacts")
    return convert(Request(source, output, (*DEFAULT_FORMATS, "weights")))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real nets and MatConvNet's own outputs, if it lies beside the project."""
    if not _DATA.is_dir():
        pytest.skip("../shared/data is not here: it holds the real nets and reference outputs")
    return _DATA.resolve()
