"""safetensors that are read: what is refused, and what becomes of the scaling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.convert import weights_of
from converters.errors import ConversionError, ReadError
from converters.mini import mini
from converters.recognise import spec_from
from converters.writers.sources import pytorch_netvlad_safetensors

library = pytest.importorskip("safetensors.numpy", reason="it reads the format")
reader = pytest.importorskip("converters.readers.safetensors")

Array = NDArray[Any]
KERNEL = np.arange(1, 55, dtype=np.float32).reshape(2, 3, 3, 3)
MEAN = {"mean": "[1, 2, 3]"}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def save(path: Path, metadata: dict[str, str] | None, **tensors: Array) -> Path:
    named = {name.replace("_", "."): np.ascontiguousarray(t) for name, t in tensors.items()}
    library.save_file(named, path, metadata)
    return path


REFUSED: dict[str, tuple[dict[str, str] | None, dict[str, Any], str]] = {
    "another module": (MEAN, {"features_0_weight": KERNEL}, "it holds features.0.weight"),
    "DataParallel": (MEAN, {"encoder_module_0_weight": KERNEL}, "without `module.`"),
    "no mean": (None, {"backbone_0_weight": KERNEL}, "how images are scaled"),
    "no mean either": ({"format": "pt"}, {"encoder_0_weight": KERNEL}, "how images are scaled"),
    "scale 0 to 1": (
        {"mean": "[0.485, 0.456, 0.406]"},
        {"encoder_0_weight": KERNEL},
        "between 0 and 1, where 0 to 255 is meant",
    ),
    "two numbers": ({"mean": "[1, 2]"}, {"encoder_0_weight": KERNEL}, "three numbers"),
    "no JSON": ({"mean": "1, 2, 3"}, {"encoder_0_weight": KERNEL}, "metadata cannot be read"),
    "NaN mean": ({"mean": "[NaN, 2, 3]"}, {"encoder_0_weight": KERNEL}, "three numbers"),
    "std of 0": (
        {"normalize": '{"mean": [0, 0, 0], "std": [1, 0, 1]}'},
        {"encoder_0_weight": KERNEL},
        "std must be positive",
    ),
    "integers": (MEAN, {"backbone_0_weight": KERNEL.astype(np.int32)}, "holds int32"),
    "infinite": (MEAN, {"backbone_0_weight": KERNEL * np.inf}, "NaN or infinite"),
    "pooling": (
        {**MEAN, "pooling": "gem"},
        {"encoder_0_weight": KERNEL},
        "says pooling 'gem'",
    ),
    "WPCA": (
        MEAN,
        {
            "encoder_0_weight": KERNEL,
            "pool_centroids": np.zeros((4, 2), np.float32),
            "WPCA_0_weight": np.zeros((3, 9, 1, 1), np.float32),
        },
        "behind 4 clusters",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    metadata, tensors, reason = REFUSED[case]
    path = save(tmp_path / "net.safetensors", metadata, **tensors)
    with pytest.raises(ReadError) as caught:
        reader.read(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"", "cannot be read"),
        (b"\x08\0\0\0\0\0\0\0{}", "cannot be read"),
        ((2**62).to_bytes(8, "little") + b"{}", "cannot be read"),
    ],
    ids=["absent", "empty", "cut off", "a length without end"],
)
def test_no_such_file(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "net.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReadError, match=reason):
        reader.read(path)


def test_the_layout_is_told_by_the_names_and_nothing_is_renamed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {**MEAN, "net": "n"}, backbone_0_weight=KERNEL)
    found = reader.read(path)
    assert found.origin.format == "hloc"
    assert found.origin.session == "n"
    assert list(found.tensors) == ["input/mean", "backbone.0.weight"]
    assert found.tensors["input/mean"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.tensors["backbone.0.weight"], KERNEL)
    other = reader.read(save(tmp_path / "b.safetensors", MEAN, encoder_0_weight=KERNEL))
    assert other.origin.format == "pytorch_netvlad"


def test_a_std_is_divided_out_of_the_first_convolution(tmp_path: Path) -> None:
    """(x/255 - m)/s with kernel w is x - 255·m with w/(255·s)."""
    said = {"normalize": json.dumps(IMAGENET)}
    found = reader.read(save(tmp_path / "a.safetensors", said, encoder_0_weight=KERNEL))
    kernel, mean = found.tensors["encoder.0.weight"], found.tensors["input/mean"]
    image = np.random.default_rng(0).uniform(0, 255, (3, 3, 3))
    m, s = (np.reshape(IMAGENET[key], (3, 1, 1)) for key in ("mean", "std"))
    theirs = np.einsum("oihw,ihw->o", KERNEL.astype(float), (image / 255 - m) / s)
    ours = np.einsum("oihw,ihw->o", kernel.astype(float), image - mean.reshape(3, 1, 1))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert kernel.dtype == np.float32
    (note,) = found.origin.notes
    assert note.startswith("divided: encoder.0.weight by [58.395")


def test_without_centres_the_metadata_must_name_the_pooling(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    pytorch_netvlad_safetensors.write(mini(), path)
    kept = {n: t for n, t in library.load_file(path).items() if n.startswith("encoder")}
    library.save_file(kept, path, MEAN)
    with pytest.raises(ConversionError, match=r"no pool\.conv\.weight, and no metadata"):
        spec_from(reader.read(path))
    library.save_file(kept, path, {**MEAN, "pooling": "avg"})
    spec = spec_from(reader.read(path))
    assert (spec.pooling, spec.clusters, spec.prel2, spec.whitening) == ("avg", 0, False, 0)
    assert weights_of(reader.read(path), spec).keys() == spec.weight_shapes.keys()
