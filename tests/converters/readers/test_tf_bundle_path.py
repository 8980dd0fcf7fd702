"""Which checkpoint a path means. Its files may be empty here: only their names count."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.errors import ReadError
from converters.readers.tf_bundle_path import find_bundle


def checkpoints(folder: Path, *names: str, stated: str = "") -> Path:
    for name in names:
        (folder / f"{name}.index").touch()
    if stated:
        text = f'model_checkpoint_path: "{stated}"\nall_model_checkpoint_paths: "z"\n'
        (folder / "checkpoint").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("names", "stated", "reason"),
    [
        ([], "", "holds no checkpoint"),
        ([], "gone", "holds no checkpoint"),
        (["a", "b"], "", "holds 2 checkpoints, and no file 'checkpoint' says which"),
        (["a", "b"], "gone", "names gone.index, which is absent"),
    ],
)
def test_directory_without_an_answer(
    tmp_path: Path, names: list[str], stated: str, reason: str
) -> None:
    with pytest.raises(ReadError, match=reason) as caught:
        find_bundle(checkpoints(tmp_path, *names, stated=stated))
    assert all(f"{name}.index" in caught.value.advice for name in names)


def test_absent(tmp_path: Path) -> None:
    checkpoints(tmp_path, "there")
    with pytest.raises(ReadError, match="does not exist") as caught:
        find_bundle(tmp_path / "m")
    assert "there.index" in caught.value.advice
    with pytest.raises(ReadError, match="does not exist"):
        find_bundle(tmp_path / "no/such/folder/m")


def test_old_version_1(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"anything")
    with pytest.raises(ReadError, match=r"has no m\.index beside it") as caught:
        find_bundle(tmp_path / "m")
    assert "SaverDef.V2" in caught.value.advice


@pytest.mark.parametrize("name", ["m.ckpt-1", "m", ""])
@pytest.mark.parametrize("suffix", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_prefix_and_each_of_its_files(tmp_path: Path, name: str, suffix: str) -> None:
    checkpoints(tmp_path, name, *([] if name == "" else ["other"]))
    found = find_bundle(tmp_path / f"{name}{suffix}")
    assert found.index == tmp_path / f"{name}.index"
    assert found.prefix == tmp_path / name
    assert found.shard(2, 10) == tmp_path / f"{name}.data-00002-of-00010"
    assert found.notes == ()


def test_prefix_wins_over_a_folder_of_that_name(tmp_path: Path) -> None:
    checkpoints(tmp_path, "m")
    (tmp_path / "m").mkdir()
    assert find_bundle(tmp_path / "m").index == tmp_path / "m.index"


@pytest.mark.parametrize(
    ("names", "stated", "expected"),
    [
        (["a"], "", "a"),
        (["a", "b"], "b", "b"),
        (["a", "b"], "./b", "b"),
        (["a", "b"], "/home/them/models/b", "b"),
        (["a", "b"], r"C:\models\a", "a"),
        (["", "b"], "/home/them/models/", ""),
    ],
)
def test_directory(tmp_path: Path, names: list[str], stated: str, expected: str) -> None:
    found = find_bundle(checkpoints(tmp_path, *names, stated=stated))
    assert found.prefix == tmp_path / expected
    assert found.notes == ()


def test_stale_checkpoint_file(tmp_path: Path) -> None:
    found = find_bundle(checkpoints(tmp_path, "a", stated="gone"))
    assert found.prefix == tmp_path / "a"
    assert found.notes == (
        "its file 'checkpoint' names gone.index, which is absent; read: a.index",
    )
