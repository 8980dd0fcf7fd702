"""Functions in processes of their own."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from converters import children
from converters.errors import ConversionError, EnvironmentFailure, MappingError, ReadError


def test_a_value_comes_back_from_another_process(tmp_path: Path) -> None:
    assert children.run(tmp_path / "log", os.getpid) != os.getpid()


def test_settings_are_those_that_make_artifacts_repeatable(tmp_path: Path) -> None:
    assert children.run(tmp_path / "log", os.getenv, "TF_ENABLE_ONEDNN_OPTS") == "0"
    assert children.run(tmp_path / "log", os.getenv, "PYTHONHASHSEED") == "0"


def test_an_error_comes_back_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        children.run(tmp_path / "log", os.listdir, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "error",
    [
        ReadError("a.mat", "is empty", advice="fetch it again"),
        MappingError(["a"], ["b"], {"c": "shape"}, advice="x"),
        ConversionError("no", advice="yes"),
        EnvironmentFailure("disk", advice="more disk"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_errors_survive_pickling(error: ConversionError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_a_death_is_reported_with_the_last_words(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"(?s)died \(7\).*memory"):
        children.run(tmp_path / "log", os._exit, 7)
