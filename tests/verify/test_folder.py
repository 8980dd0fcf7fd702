"""What a conversion's folder says of itself, and where it lies."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from converters.errors import EnvironmentFailure, ReadError
from verify.folder import open_folder


def facts(content: bytes, format: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"format": format, "size": len(content), "sha256": digest}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "artifacts" / "net"
    (made / "saved_model").mkdir(parents=True)
    contents = {"model.onnx": b"onnx", "saved_model/saved_model.pb": b"pb", "MODEL_CARD.md": b"# x"}
    formats = {"model.onnx": "onnx", "saved_model/saved_model.pb": "savedmodel"}
    for name, content in contents.items():
        (made / name).write_bytes(content)
    (tmp_path / "net.mat").write_bytes(b"mat")
    source = {"path": "../../net.mat", **facts(b"mat", "matconvnet")}
    manifest = {
        "files": {n: facts(c, formats.get(n, "text")) for n, c in contents.items()},
        "source": {"files": [source]},
    }
    (made / "manifest.json").write_text(json.dumps(manifest))
    return made


def rewrite(folder: Path, **source: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["source"]["files"][0].update(source)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_whole_folder(folder: Path) -> None:
    found = open_folder(folder)
    assert [path.name for path in found.artifacts] == ["model.onnx", "saved_model"]
    assert [path.name for path in found.sources] == ["net.mat"]
    assert found.hashes == {}


def test_a_source_in_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETVLAD_KERAS_CACHE", str(tmp_path))
    rewrite(folder, path="cache:net.mat")
    assert open_folder(folder).sources == (tmp_path / "net.mat",)


def test_a_checkpoint_is_named_by_its_prefix(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net.index").write_bytes(b"mat")
    rewrite(folder, path="../../net.index")
    assert open_folder(folder).sources == (tmp_path / "net",)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("model.onnx", b"onn!", "has sha256"),
        ("model.onnx", b"longer", "has 6 bytes, the manifest says 4"),
        ("saved_model/saved_model.pb", None, "is not there"),
    ],
)
def test_a_changed_file_is_named(
    name: str, content: bytes | None, fault: str, folder: Path
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    hashes = open_folder(folder).hashes
    assert list(hashes) == [name]
    assert hashes[name].startswith(fault)


def test_a_changed_source_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net.mat").write_bytes(b"may")
    assert list(open_folder(folder).hashes) == ["source net.mat"]


def test_a_source_that_is_not_there_cannot_be_compared(folder: Path) -> None:
    rewrite(folder, path="../../gone.mat")
    with pytest.raises(EnvironmentFailure, match=r"gone\.mat"):
        open_folder(folder)


@pytest.mark.parametrize("content", [None, "no json", "{}", "[]"])
def test_a_folder_without_a_manifest_is_refused(content: str | None, folder: Path) -> None:
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_text(content)
    with pytest.raises(ReadError, match="manifest"):
        open_folder(folder)
