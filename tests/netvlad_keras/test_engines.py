"""Every artifact of a conversion describes alike. Needs TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from netvlad_keras.describe import describe
from netvlad_keras.describer import opened
from netvlad_keras.engines import open_model
from netvlad_keras.errors import CropError, ModelFileError
from netvlad_keras.results import read

ARTIFACTS = ("model.onnx", "model.keras", "model.h5", "saved_model")


@pytest.mark.parametrize("name", ARTIFACTS)
def test_the_contract_is_the_same_in_every_artifact(name: str, mini_artifacts: Path) -> None:
    contract = open_model(mini_artifacts / name).contract
    assert (contract.layout, contract.dtype, contract.batch) == ("NHWC", "float32", None)
    assert (contract.dimension, contract.whitened) == (16, True)
    if name != "saved_model":
        assert contract.minimum == 16
        assert contract.misfit(16, 16) == ""
        assert "from 16×16" in contract.misfit(15, 99)


@pytest.mark.parametrize("name", ARTIFACTS[1:])
def test_every_artifact_describes_alike(name: str, mini_artifacts: Path, images: Any) -> None:
    onnx, other = (open_model(mini_artifacts / each) for each in ("model.onnx", name))
    for size in ((3, 40, 56), (2, 33, 17)):
        batch = images(*size)
        np.testing.assert_allclose(other.describe(batch), onnx.describe(batch), atol=2e-6)


def test_no_bit_depends_on_what_is_described_together(
    mini_artifacts: Path, photographs: Path, tmp_path: Path
) -> None:
    """In one batch, ONNX Runtime's last bits would: of this net too, for one image and for two."""
    model, paths = mini_artifacts / "model.onnx", sorted(photographs.iterdir())
    files = []
    for batch in (1, 2, 3, 11):
        files.append(tmp_path / f"{batch}.npz")
        describe(opened(model, batch=batch), paths, files[-1])
    assert len({file.read_bytes() for file in files}) == 1
    describe(opened(model), paths[4:5], tmp_path / "one.npz")
    np.testing.assert_array_equal(read(tmp_path / "one.npz").vectors, read(files[0]).vectors[4:5])


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_cut_goes_through_every_artifact(
    name: str, mini_artifacts: Path, photographs: Path, tmp_path: Path
) -> None:
    paths = sorted(photographs.iterdir())
    model = opened(mini_artifacts / name, dimension=5)
    assert not describe(model, paths, tmp_path / "o.npz").faults
    assert read(tmp_path / "o.npz").vectors.shape == (11, 5)
    with pytest.raises(CropError, match="they have 16"):
        opened(mini_artifacts / name, dimension=17)


def test_weights_alone_do_not_say_which_net(mini_artifacts: Path) -> None:
    with pytest.raises(ModelFileError, match="does not say which NetVLAD"):
        open_model(mini_artifacts / "model.weights.h5")


@pytest.mark.parametrize("name", ["x.keras", "x.h5"])
def test_a_broken_keras_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=name):
        open_model(tmp_path / name)


def test_a_broken_saved_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="does not serve"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("shape", "said"), [((None, 8), "not images in RGB"), ((None, None, None, 3), "not a vector")]
)
def test_another_saved_model_is_refused(
    shape: tuple[int | None, ...], said: str, tmp_path: Path
) -> None:
    module = tf.Module()
    serve = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec(shape, name="x")])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": serve})
    with pytest.raises(ModelFileError, match=said):
        open_model(tmp_path / "m")
