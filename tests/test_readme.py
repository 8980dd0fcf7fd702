"""The code in the README and in the model card does what they say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


def blocks(text: str, word: str) -> str:
    """The one Python block that mentions `word`."""
    found = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if word in code]
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def folder(mini_artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the artifacts and a picture, as a reader would stand in it."""
    shutil.copytree(mini_artifacts, tmp_path / "mini")
    pixels = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mini" / "query.jpg")
    monkeypatch.chdir(tmp_path / "mini")
    return tmp_path / "mini"


def run(code: str) -> Any:
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return np.asarray(names["descriptor"])


@pytest.mark.parametrize("document", ["README.md", "MODEL_CARD.md"])
def test_each_artifact_is_used_in_a_few_lines(document: str, folder: Path) -> None:
    text = (ROOT if document == "README.md" else folder).joinpath(document).read_text("utf-8")
    onnx = blocks(text, "onnxruntime")
    assert len(onnx.strip().splitlines()) == 5
    expected = run(onnx)
    assert expected.shape == (1, 16)
    for word in ("keras.saving.load_model", "tf.saved_model.load"):
        np.testing.assert_allclose(run(blocks(text, word)), expected, atol=2e-6)


def test_the_query_finds_its_place(shared_data: Path) -> None:
    """README's five lines on real photographs, with the real convolutions."""
    model = ROOT / "artifacts" / "vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra"
    if not (model / "model.onnx").is_file():
        pytest.skip("artifacts/ holds no off-the-shelf net: run nox -s convert")
    code = blocks((ROOT / "README.md").read_text("utf-8"), "onnxruntime")
    code = code.replace('"model.onnx"', repr(str(model / "model.onnx")))
    images = shared_data / "images" / "netvlad_keras"
    query, first, second = (
        run(code.replace('"query.jpg"', repr(str(images / f"{name}.jpg"))))
        for name in ("query", "db1", "db2")
    )
    assert np.linalg.norm(query - first) < np.linalg.norm(query - second)
