"""An ONNX file is proven, and explained, where nothing but ONNX and NumPy can be imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from converters.__main__ import main as convert
from converters.mini import mini
from verify import regimes
from verify.__main__ import main
from verify.oracle import run

#: Runs the command line with what reads sources and what converts made impossible to import.
ALONE = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "keras", "scipy", "h5py", "matio", "tf2onnx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refusing())
from verify.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def alone(*words: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(mini_artifacts: Path, mini_mat: Path, tmp_path: Path) -> Path:
    """What somebody downloads: the ONNX file and its reference, not the source."""
    shutil.copyfile(mini_artifacts / "model.onnx", tmp_path / "model.onnx")
    reference = tmp_path / "reference.npz"
    assert main(["reference", "--source", str(mini_mat), "--output", str(reference)]) == 0
    return tmp_path


def test_it_passes_without_the_source_and_without_tensorflow(folder: Path) -> None:
    code, words = alone(folder / "model.onnx")
    assert code == 0, words
    assert "36 layers and 31 tensors compared on 2 inputs, no difference" in words


@pytest.mark.parametrize("name", ["conv3_2/kernel", "vlad:core/assignment", "WPCA/kernel"])
def test_one_changed_weight_is_caught(name: str, folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    values = np.array(onnx.numpy_helper.to_array(tensor))
    values.flat[values.size // 2] += np.float32(values.std())
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, folder / "model.onnx")
    code, words = alone("check", folder / "model.onnx", "--report", folder)
    assert code == 1, words
    verdict = json.loads((folder / "report" / "report.json").read_text("utf-8"))["verdict"]
    assert (verdict["first_bad_layer"], verdict["tensor"]) == (name.split("/")[0], name)
    assert {"report.html", "report.xml", "report.md"} <= {
        path.name for path in (folder / "report").iterdir()
    }


@pytest.fixture
def halved(mini_mat: Path, tmp_path: Path) -> Path:
    """`model_fp16.onnx` and the reference, alone."""
    made = tmp_path / "made"
    words = ["convert", "--source", str(mini_mat), "--output", str(made), "--formats", "onnx"]
    assert convert([*words, "--half"]) == 0
    shutil.copyfile(made / "mini" / "model_fp16.onnx", tmp_path / "small.onnx")
    reference = tmp_path / "reference.npz"
    assert main(["reference", "--source", str(mini_mat), "--output", str(reference)]) == 0
    return tmp_path


def test_a_file_in_float16_is_proven_by_what_float16_costs(halved: Path) -> None:
    code, words = alone(halved / "small.onnx")
    assert code == 0, words
    assert "36 layers and 31 tensors compared on 2 inputs, no difference" in words


def test_one_changed_weight_in_float16_is_caught(halved: Path) -> None:
    model = onnx.load(halved / "small.onnx")
    (tensor,) = (t for t in model.graph.initializer if t.name == "conv3_2/kernel")
    values = np.array(onnx.numpy_helper.to_array(tensor))
    assert values.dtype == np.float16
    values.flat[values.size // 2] += values.std()
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, halved / "small.onnx")
    code, _ = alone("check", halved / "small.onnx", "--report", halved)
    assert code == 1
    verdict = json.loads((halved / "report" / "report.json").read_text("utf-8"))["verdict"]
    assert (verdict["first_bad_layer"], verdict["tensor"]) == ("conv3_2", "conv3_2/kernel")


def test_float16_that_the_file_does_not_declare_fails(halved: Path) -> None:
    model = onnx.load(halved / "small.onnx")
    (entry,) = (e for e in model.metadata_props if e.key == "numbers")
    model.metadata_props.remove(entry)
    onnx.save(model, halved / "small.onnx")
    code, words = alone("check", halved / "small.onnx")
    assert code == 1
    assert "is not the source's" in words


def test_a_folder_that_convert_made_has_a_reference(mini_artifacts: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference.npz"
    assert main(["reference", str(mini_artifacts), "--output", str(reference)]) == 0
    paths = [mini_artifacts / "model.onnx", mini_artifacts / "saved_model"]
    assert main(["check", *map(str, paths), "--against", str(reference)]) == 0


def test_a_cause_is_named_without_tensorflow(folder: Path) -> None:
    picture = regimes.photograph(44, 60)
    np.save(folder / "picture.npy", picture[0])
    wrong = run(mini(), picture[..., ::-1], np.float32)["finalL2"]
    np.save(folder / "theirs.npy", wrong)
    files: list[str | Path] = [
        "--image",
        folder / "picture.npy",
        "--descriptor",
        folder / "theirs.npy",
    ]
    code, words = alone("explain", *files, folder / "model.onnx", "--json")
    assert code == 0, words
    found = json.loads(words)
    assert found["outcome"] == "explained"
    (cause,) = found["causes"]
    assert [row["name"] for row in cause["hypotheses"]] == ["bgr"]
    assert found["before"] > 0.1
    assert cause["distance"] < 1e-5
