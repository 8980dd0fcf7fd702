"""The source as the oracle executes it, and its weights by canonical name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import MEAN, Checkpoint
from converters.convert import Request, convert
from converters.errors import ConversionError, MappingError, ReadError
from converters.mini import SPEC, mini, seeded
from converters.sources import SourceFiles
from converters.writers.sources import hloc_safetensors, pytorch_netvlad_safetensors
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import Row
from verify import oracle
from verify.reference import cropped, declared_crop, reference, weights_of

Array = NDArray[Any]
IMAGES = np.random.default_rng(4).integers(0, 256, (1, 20, 23, 3), np.uint8)

GROUPED = NetVLADSpec(
    trunk=(
        Row("conv", "conv1", (7, 7), (2, 2), width=8),
        Row("pool", "pool1", (3, 3), (2, 2), (0, 1, 0, 1)),
        Row("normalize", "norm1", lrn=(5, 1.0, 2e-5, 0.75)),
        Row("conv", "conv2", (3, 3), pads=(1, 1, 1, 1), groups=2, width=8),
    ),
    pooling="vladv2",
    clusters=4,
    whitening=0,
    name="grouped",
)
MAXIMUM = replace(GROUPED, pooling="max", prel2=False, intranorm=False, clusters=0, whitening=3)


def keras_file(path: Path, checkpoint: Checkpoint, spec: NetVLADSpec | None) -> Path:
    """A `.h5` of the model's weights, as Keras writes it, without Keras."""
    with h5py.File(path, "w") as file:
        if spec:
            config = {"class_name": "NetVLADModel", "config": {"spec": spec.to_dict()}}
            file.attrs["model_config"] = json.dumps(config)
        weights: dict[str, dict[str, Array]] = {}
        for name, array in weights_of(checkpoint).items():
            layer, weight = name.rsplit("/", 1)
            weights.setdefault(layer.replace(":", ".3A"), {})[weight] = array
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = list(weights)
        for layer, arrays in weights.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{weight}" for weight in arrays]
            for weight, array in arrays.items():
                group[f"{layer}/{weight}"] = array
    return path


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    """The same layers, the same bits, and the same outputs."""
    assert found.layers == expected.layers
    assert found.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array, name, strict=True)
    right = oracle.run(expected, IMAGES)
    for layer, output in oracle.run(found, IMAGES).items():
        np.testing.assert_allclose(output, right[layer], rtol=1e-9, atol=1e-12, err_msg=layer)


def test_a_mat_file_is_its_own_reference(mini_mat: Path) -> None:
    assert_same(reference(mini_mat), mini())


@pytest.mark.parametrize("spec", [SPEC, GROUPED, MAXIMUM], ids=["mini", "grouped", "maximum"])
def test_a_keras_file_is_executed_as_matconvnet_would(tmp_path: Path, spec: NetVLADSpec) -> None:
    source = seeded(spec, 3)
    found = reference(keras_file(tmp_path / "model.h5", source, spec))
    assert_same(found, source)
    assert "executed as MatConvNet has them" in found.origin.notes[-1]


def test_without_a_record_it_is_the_published_net(tmp_path: Path) -> None:
    assert_same(reference(keras_file(tmp_path / "model.h5", mini(), None)), mini())


def test_a_tf_checkpoint_is_executed_as_matconvnet_would(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="it writes the checkpoint")
    from converters.writers.sources import netvlad_tf

    netvlad_tf.write(mini(), tmp_path / "net")
    assert_same(reference(tmp_path / "net"), mini())
    assert_same(reference(tmp_path / "net.index"), mini())


V2 = replace(SPEC, pooling="vladv2")
MEANS = replace(SPEC, pooling="avg", clusters=0, prel2=False, intranorm=False, whitening=0)


@pytest.mark.parametrize(
    ("write", "spec"),
    [
        (hloc_safetensors.write, SPEC),
        (pytorch_netvlad_safetensors.write, SPEC),
        (pytorch_netvlad_safetensors.write, replace(V2, whitening=0)),
        (pytorch_netvlad_safetensors.write, V2),
        (pytorch_netvlad_safetensors.write, MEANS),
    ],
)
def test_a_torch_module_is_executed_as_matconvnet_would(
    write: Callable[[Checkpoint, Path], None], spec: NetVLADSpec, tmp_path: Path
) -> None:
    pytest.importorskip("safetensors")
    write(seeded(spec, 3), tmp_path / "net.safetensors")
    assert_same(reference(tmp_path / "net.safetensors"), seeded(spec, 3))


def test_the_upstream_checkpoint_is_the_mat_file(shared_data: Path) -> None:
    pytest.importorskip("matio", reason="the .mat file holds class objects")
    folder = shared_data / "netvlad"
    source = reference(folder / "vd16_white64_classes_v7.mat")
    found = reference(folder / "vd16_white64")
    assert found.layers == source.layers
    expected = weights_of(source)
    weights = weights_of(found)
    assert weights.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(weights[name], array, name)


def test_weights_carry_the_models_names_and_axes() -> None:
    source = mini()
    found = weights_of(source)
    assert {name: found[name].shape for name in list(found)[:3] + list(found)[-4:]} == {
        "input/mean": (3,),
        "conv1_1/kernel": (3, 3, 3, 8),
        "conv1_1/bias": (8,),
        "vlad:core/assignment": (16, 8),
        "vlad:core/centers": (16, 8),
        "WPCA/kernel": (128, 16),
        "WPCA/bias": (16,),
    }
    minus = source.tensors["vlad:core/weights/1"]
    np.testing.assert_array_equal(found["vlad:core/centers"], -minus[0, 0])
    np.testing.assert_array_equal(found["input/mean"], source.tensors[MEAN][0, 0])
    assert len(found) == 31


def test_weights_without_a_rule_keep_their_own_name() -> None:
    source = mini()
    stray = replace(source, tensors={**source.tensors, "bn1/weights/0": np.ones(3)})
    assert "bn1/weights/0" in weights_of(stray)


def test_a_crop_keeps_the_first_outputs(mini_mat: Path) -> None:
    whole, part = reference(mini_mat), reference(mini_mat, 5)
    assert weights_of(part)["WPCA/kernel"].shape == (128, 5)
    right = oracle.run(whole, IMAGES)["WPCA"][:, :5]
    found = oracle.run(part, IMAGES)
    np.testing.assert_allclose(found["WPCA"], right, rtol=1e-12)
    np.testing.assert_allclose(found["finalL2"], right / np.linalg.norm(right), rtol=1e-9)


@pytest.mark.parametrize(
    ("spec", "dimension", "words"),
    [
        (SPEC, 0, "its whitening has 16"),
        (SPEC, 17, "cropped to 17 dimensions; its whitening has 16"),
        (GROUPED, 4, "it has no whitening"),
    ],
)
def test_crops_that_cannot_be(spec: NetVLADSpec, dimension: int, words: str) -> None:
    with pytest.raises(ConversionError, match=words):
        cropped(seeded(spec, 3), dimension)


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({}, None),
        ({"transformations": []}, None),
        ({"transformations": ["rounded from float64 to float32: conv1_1/kernel"]}, None),
        (
            {"transformations": ["WPCA cropped to its first 512 outputs, L2-normalised again"]},
            512,
        ),
    ],
)
def test_a_crop_is_what_the_manifest_declares(
    manifest: dict[str, Any], expected: int | None
) -> None:
    assert declared_crop(manifest) == expected


def test_the_manifests_own_words_are_understood(mini_mat: Path, tmp_path: Path) -> None:
    source = SourceFiles("mini", (mini_mat,), "MIT", "cite it", "a notice")
    folder = convert(Request(source, tmp_path, (), dimension=5))
    assert declared_crop(json.loads((folder / "manifest.json").read_text())) == 5


@pytest.mark.parametrize(
    ("change", "missing", "unexpected"),
    [
        ({"conv3_2/bias": None}, ("conv3_2/bias",), ()),
        ({"conv6_1/bias": np.ones(3)}, (), ("conv6_1/bias",)),
        (
            {"vlad:core/centers": None, "vlad:core/bias": np.ones(8)},
            ("vlad:core/centers",),
            ("vlad:core/bias",),
        ),
    ],
)
def test_weights_that_are_no_netvlads_are_named(
    tmp_path: Path,
    change: dict[str, Array | None],
    missing: tuple[str, ...],
    unexpected: tuple[str, ...],
) -> None:
    tensors = {**weights_of(mini()), **change}
    left = {name: array for name, array in tensors.items() if array is not None}
    path = keras_file(tmp_path / "model.h5", replace(mini(), tensors=left, layers=()), SPEC)
    with pytest.raises(MappingError) as caught:
        reference(path)
    assert (caught.value.missing, caught.value.unexpected) == (missing, unexpected)


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "net.mat").write_text("not a .mat file")
    for path in (tmp_path / "net.mat", tmp_path / "absent.h5", tmp_path / "absent"):
        with pytest.raises(ReadError):
            reference(path)
    path = keras_file(tmp_path / "model.h5", replace(mini(), layers=(), tensors={}), None)
    with pytest.raises(ConversionError, match="not a NetVLAD that is known"):
        reference(path)
