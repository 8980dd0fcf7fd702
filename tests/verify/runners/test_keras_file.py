"""Keras files that lead out of themselves or hold what they should not. No Keras here."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from converters.errors import ReadError
from verify.runners.keras_file import check

CONFIG = json.dumps({"class_name": "Functional", "config": {"layers": []}})


def link_out(file: Any, folder: Path) -> None:
    file["model_weights/a"] = h5py.ExternalLink(str(folder / "other.h5"), "/x")


def link_within(file: Any, folder: Path) -> None:
    file["model_weights/a"] = h5py.SoftLink("/etc")


def store_outside(file: Any, folder: Path) -> None:
    (folder / "secret.bin").write_bytes(b"secret" * 8)
    place = [(str(folder / "secret.bin"), 0, 48)]
    file.create_dataset("model_weights/deep/a", (12,), "f4", external=place)


def put_together(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (4,))
    file.create_virtual_dataset("model_weights/a", layout)


def declare_much(file: Any, folder: Path) -> None:
    file.create_dataset("model_weights/a", (1 << 34,), "f4", chunks=(1 << 20,), compression="gzip")


HOSTILE: list[tuple[Callable[[Any, Path], None], str]] = [
    (link_out, "/model_weights/a is a link to .*other.h5"),
    (link_within, "/model_weights/a is a link"),
    (store_outside, "/model_weights/deep/a keeps its values in another file .*secret.bin"),
    (put_together, "/model_weights/a is put together"),
    (declare_much, "/model_weights/a declares 68719476736 bytes and holds 0"),
]


def harmless(file: Any, folder: Path) -> None:
    file["model_weights/a"] = np.ones(3, np.float32)
    file["model_weights/again"] = file["model_weights"]  # a group within itself
    file.create_dataset("model_weights/packed", data=np.zeros(1 << 20), compression="gzip")


def write(path: Path, fill: Callable[[Any, Path], None], config: str | None = CONFIG) -> Path:
    """An `.h5` or a `.keras` file whose HDF5 part `fill` has filled."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("model_weights")
        if config is not None:
            file.attrs["model_config"] = config
        fill(file, path.parent)
    if path.suffix != ".keras":
        path.write_bytes(buffer.getvalue())
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config or "")
        archive.writestr("model.weights.h5", buffer.getvalue())
    return path


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_a_file_that_keeps_to_itself_passes(tmp_path: Path, name: str) -> None:
    check(write(tmp_path / name, harmless))


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize(
    ("fill", "words"), HOSTILE, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_leads_out_is_named(
    tmp_path: Path, name: str, fill: Callable[[Any, Path], None], words: str
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(4, dtype=np.float32)
    with pytest.raises(ReadError, match=words):
        check(write(tmp_path / name, fill))


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_the_configuration_is_looked_at_first(tmp_path: Path, name: str) -> None:
    config = json.dumps({"class_name": "Lambda", "config": {}})
    with pytest.raises(ReadError, match="refused: Lambda"):
        check(write(tmp_path / name, link_out, config))


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="holds weights alone"):
        check(write(tmp_path / "model.h5", harmless, None))


def test_an_archive_holds_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "model.keras", harmless)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil.py", "")
    with pytest.raises(ReadError, match=r"\.\./evil\.py"):
        check(path)
