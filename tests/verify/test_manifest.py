"""`netvlad-verify manifest`: every file there, its size, its checksum, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from verify.__main__ import main
from verify.manifest import compare

CONTENTS = {
    "model.onnx": b"onnx",
    "saved_model/saved_model.pb": b"pb",
    "MODEL_CARD.md": b"# card",
}


def facts(content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"format": "text", "size": len(content), "sha256": digest}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "net"
    (made / "saved_model" / "assets").mkdir(parents=True)
    for name, content in CONTENTS.items():
        (made / name).write_bytes(content)
    rewrite(made, {name: facts(content) for name, content in CONTENTS.items()})
    (tmp_path / ".net.lock").touch()
    return made


def rewrite(folder: Path, files: Any) -> None:
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "files": files}))


def test_a_whole_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "report" / "repro").mkdir(parents=True)
    (folder / "report" / "repro" / "report.html").write_text("what check left")
    assert main(["manifest", str(folder)]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[:-1]] == list(CONTENTS)
    assert "3 files, all of them as the manifest says, and nothing else" in said


def _link(path: Path, to: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def _same_content_elsewhere(folder: Path) -> None:
    (folder.parent / "elsewhere").write_bytes(b"onnx")
    _link(folder / "model.onnx", folder.parent / "elsewhere")


def _folder_in_its_place(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()


def _linked_folder(folder: Path) -> None:
    (folder / "saved_model").rename(folder.parent / "moved")
    _link(folder / "saved_model", folder.parent / "moved")


BROKEN: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a changed byte": (
        lambda f: (f / "model.onnx").write_bytes(b"onnX"), "model.onnx", "has sha256"
    ),
    "another size": (
        lambda f: (f / "model.onnx").write_bytes(b"onn"), "model.onnx",
        "has 3 bytes, the manifest says 4",
    ),
    "gone": (lambda f: (f / "model.onnx").unlink(), "model.onnx", "is not there"),
    "a folder in its place": (
        _folder_in_its_place,
        "model.onnx", "is not there",
    ),
    "a link": (_same_content_elsewhere, "model.onnx", "is a link"),
    "a linked folder": (_linked_folder, "saved_model/saved_model.pb", "is a link"),
    "extra": (lambda f: (f / "x.py").touch(), "x.py", "has no place in the manifest"),
    "extra, hidden": (
        lambda f: (f / "saved_model" / ".x").touch(), "saved_model/.x", "has no place"
    ),
    "an extra link": (lambda f: _link(f / "l", f), "l", "has no place in the manifest"),
    "a report that is a link": (lambda f: _link(f / "report", f), "report", "has no place"),
    "a report that is a file": (lambda f: (f / "report").touch(), "report", "has no place"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "name", "fault"), BROKEN.values(), ids=BROKEN)
def test_what_is_not_as_it_should_be(
    change: Callable[[Path], Any], name: str, fault: str, folder: Path
) -> None:
    change(folder)
    assert main(["manifest", str(folder)]) == 1
    wrong = {entry.name: entry.fault for entry in compare(folder) if entry.fault}
    assert wrong.pop(name).startswith(fault)
    assert set(wrong) <= {"saved_model"}  # a linked folder is extra, too


@pytest.mark.parametrize("name", ["../net.mat", "/etc/passwd", "", "a/../../x", "x\0y"])
def test_a_name_that_leads_out_is_not_followed(name: str, folder: Path) -> None:
    (folder.parent / "net.mat").write_bytes(b"onnx")
    rewrite(folder, {**{n: facts(c) for n, c in CONTENTS.items()}, name: facts(b"onnx")})
    assert main(["manifest", str(folder)]) == 1
    (wrong,) = [entry for entry in compare(folder) if entry.fault]
    assert (wrong.name, wrong.fault) == (name, "leads out of the folder")


@pytest.mark.parametrize(
    "content",
    [None, b"", b"[]", b"{}", b'{"files": {}}', b'{"files": []}', b'{"files": {"x": 3}}',
     b'{"files": {"x": {"size": "4", "sha256": "a"}}}', b'{"files": {"x": {"size": 4}}}',
     b"\xff\xfe", b"[" * 100_000],
)  # fmt: skip
def test_without_a_manifest_nothing_can_be_compared(
    content: bytes | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_bytes(content)
    assert main(["manifest", str(folder)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert main(["manifest", str(tmp_path / "nothing")]) == 2


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.onnx").write_bytes(b"onn")
    assert main(["manifest", str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert found["files"][0] == {
        "name": "model.onnx",
        "size": 4,
        "sha256": facts(b"onnx")["sha256"],
        "fault": "has 3 bytes, the manifest says 4",
    }
