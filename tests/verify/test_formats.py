"""How an artifact is known, and that asking costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converters.errors import EnvironmentFailure, ReadError
from verify import formats


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("files", "given", "kind"),
    [
        (["m/saved_model.pb"], "m", "savedmodel"),
        (["m.weights.h5"], "m.weights.h5", "weights"),
        (["m.keras"], "m.keras", "keras"),
        (["M.KERAS"], "M.KERAS", "keras"),
        (["m.h5"], "m.h5", "h5"),
        (["m.hdf5"], "m.hdf5", "h5"),
        (["m.onnx"], "m.onnx", "onnx"),
        (["m.pb"], "m.pb", "tf_graph"),
        (["m.index", "m.meta"], "m", "tf_graph"),
        (["m.index", "m.meta"], "m.index", "tf_graph"),
        (["m.index", "m.meta"], "m.meta", "tf_graph"),
        (["m.index", "m.meta", "m.data-00000-of-00002"], "m.data-00000-of-00002", "tf_graph"),
        (["m.index", "m.data-00000-of-00001"], "m", "tf_variables"),
        (["m.index", "m.data-00000-of-00001"], ".", "tf_variables"),
        ([".index", ".meta"], ".", "tf_graph"),
        (["v1.5.index"], "v1.5", "tf_variables"),
    ],
)
def test_an_artifact_is_known_by_its_names(
    tmp_path: Path, files: list[str], given: str, kind: str
) -> None:
    touch(tmp_path, *files)
    assert formats.find(tmp_path / given).kind == kind


@pytest.mark.parametrize(
    ("files", "given", "words"),
    [
        ([], "m.onnx", "does not exist"),
        ([], "m", "does not exist"),
        (["m.txt"], "m.txt", "is not an artifact that is known"),
        (["m/readme"], "m", "is not an artifact that is known"),
        (["m.meta"], "m.meta", "is not an artifact that is known"),
        (["m.onnx/inside"], "m.onnx", "is not an artifact that is known"),
        (["a.index", "b.index"], ".", "holds several checkpoints"),
    ],
)
def test_what_is_no_artifact_is_said(
    tmp_path: Path, files: list[str], given: str, words: str
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(ReadError, match=words):
        formats.find(tmp_path / given)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "verify.runners.onnx", raising=False)
    with pytest.raises(EnvironmentFailure, match="onnxruntime is needed"):
        formats.open_artifact(tmp_path / "m.onnx")


def test_naming_formats_imports_none_of_their_libraries() -> None:
    code = (
        "import sys, verify.formats, verify.reference\n"
        "heavy = {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'h5py', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("before", "setting", "expected"),
    [
        ("", "", "0 0"),
        ("", "0", "0 0"),
        ("", "1", "1 1"),
        ("", "true", "1 true"),
        ("import sys; sys.modules['tensorflow'] = 1", "", "1 0"),
        ("import sys; sys.modules['tensorflow'] = 1", "1", "1 1"),
        ("import sys; sys.modules['tensorflow'] = 1", "0", "0 0"),
    ],
)
def test_onednn_is_off_or_the_report_says_so(before: str, setting: str, expected: str) -> None:
    code = (
        f"import os\nos.environ['TF_ENABLE_ONEDNN_OPTS'] = '{setting}'\n{before}\n"
        "from verify import runners\n"
        "print(len(runners.NOTES), os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
