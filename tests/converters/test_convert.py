"""The whole pipeline through its own door, against MatConvNet's outputs where they are here."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.convert import DEFAULT_FORMATS, Request, convert
from converters.errors import ConversionError, EnvironmentFailure, MappingError, ReadError
from converters.mini import mini
from converters.sources import SourceFiles
from converters.writers.options import WriteOptions
from converters.writers.sources import matconvnet
from verify import oracle

Array = NDArray[Any]
Captures = dict[str, Callable[[Path, Array], dict[str, Array]]]

VECTORS = ("postL2", "WPCA", "finalL2")


def source(path: Path, *more: Path, name: str = "net", notice: str = "") -> SourceFiles:
    return SourceFiles(
        name=name, paths=(path, *more), licence="MIT", citation="cite it", notice=notice
    )


@pytest.fixture(scope="session")
def images() -> Array:
    return np.random.default_rng(7).integers(0, 256, (2, 67, 90, 3), np.uint8)


def distance(found: Array, expected: Array) -> float:
    """Largest difference in units of the largest expected value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_the_folder_holds_the_formats_the_manifest_and_the_card(mini_artifacts: Path) -> None:
    assert sorted(path.name for path in mini_artifacts.iterdir()) == [
        "MODEL_CARD.md",
        "manifest.json",
        "model.h5",
        "model.keras",
        "model.onnx",
        "model.weights.h5",
        "saved_model",
    ]
    assert [path.name for path in mini_artifacts.parent.iterdir() if path != mini_artifacts] == [
        ".mini.lock"
    ]


@pytest.mark.parametrize("file", ["model.keras", "model.h5", "saved_model", "model.onnx"])
def test_every_layer_of_every_artifact_is_the_oracle_s(
    file: str, mini_artifacts: Path, captures: Captures, images: Array
) -> None:
    expected = oracle.run(mini(), images)
    found = captures[file](mini_artifacts / file, images)
    assert found.keys() == expected.keys()
    assert len(found) == 36
    for layer, values in expected.items():
        assert distance(found[layer], values) < 3e-6, layer


def test_the_manifest_names_what_was_made_from_what(mini_artifacts: Path, mini_mat: Path) -> None:
    manifest = json.loads((mini_artifacts / "manifest.json").read_text())
    for name, facts in manifest["files"].items():
        content = (mini_artifacts / name).read_bytes()
        assert facts["size"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    (origin,) = manifest["source"]["files"]
    assert (mini_artifacts / origin["path"]).resolve() == mini_mat
    assert origin["sha256"] == hashlib.sha256(mini_mat.read_bytes()).hexdigest()
    assert origin["format"] == "matconvnet"
    assert manifest["layers"][29:31] == ["preL2", "vlad:core"]
    assert manifest["inputs"][0]["minimum_height"] == 16
    assert manifest["outputs"][0]["shape"] == ["batch", 16]
    assert manifest["parameters"] == 21_135
    assert manifest["transformations"] == []
    assert {"tensorflow", "tensorflow-cpu"} & set(manifest["versions"])
    assert manifest["environment"] == {"TF_ENABLE_ONEDNN_OPTS": "0"}
    files = {
        path.relative_to(mini_artifacts).as_posix()
        for path in mini_artifacts.rglob("*")
        if path.is_file()
    }
    assert set(manifest["files"]) == files - {"manifest.json"}


def test_the_card_and_the_onnx_file_carry_licence_and_notice(mini_artifacts: Path) -> None:
    import onnx

    card = (mini_artifacts / "MODEL_CARD.md").read_text()
    assert "A notice" in card
    assert "cite it" in card
    assert "16 × 16 pixels" in card
    model = onnx.load(mini_artifacts / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["notice"] == "a notice"
    assert metadata["licence"] == "MIT"
    assert metadata["minimum_size"] == "16"
    assert list(json.loads(metadata["source_sha256"])) == ["mini.mat"]


def test_the_onnx_contract(mini_artifacts: Path) -> None:
    import onnx

    model = onnx.load(mini_artifacts / "model.onnx")
    assert model.opset_import[0].version == 18
    assert contract(model) == (
        [("image", 1, ["batch", "height", "width", 3])],
        [("descriptor", 1, ["batch", 16])],
    )
    initializers = {value.name for value in model.graph.initializer}
    assert {"conv1_1/kernel", "conv5_3/bias", "vlad:core/centers", "WPCA/kernel"} <= initializers
    assert not [node for node in model.graph.node if node.domain]
    assert [node.op_type for node in model.graph.node].count("Transpose") <= 6


def contract(model: Any) -> tuple[list[Any], list[Any]]:
    def described(values: Any) -> list[Any]:
        return [
            (
                value.name,
                value.type.tensor_type.elem_type,
                [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim],
            )
            for value in values
        ]

    return described(model.graph.input), described(model.graph.output)


def test_two_runs_give_the_same_bytes(mini_artifacts: Path, mini_mat: Path, tmp_path: Path) -> None:
    same = source(mini_mat, name="mini", notice="a notice")
    again = convert(Request(same, tmp_path, (*DEFAULT_FORMATS, "weights")))
    first, second = (
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name not in ("fingerprint.pb", "manifest.json")
        }
        for folder in (mini_artifacts, again)
    )
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


ONNX_OPTIONS = {
    "nchw": (WriteOptions(layout="nchw"), [("image", 1, ["batch", 3, "height", "width"])]),
    "uint8": (
        WriteOptions(input_dtype="uint8", opset=13),
        [("image", 2, ["batch", "height", "width", 3])],
    ),
    "fixed": (
        WriteOptions(size=(67, 90), batch=2, opset=15, layout="nchw", input_dtype="uint8"),
        [("image", 2, [2, 3, 67, 90])],
    ),
    "fixed, any batch": (
        WriteOptions(size=(67, 90), opset=17),
        [("image", 1, ["batch", 67, 90, 3])],
    ),
}


@pytest.mark.parametrize("case", ONNX_OPTIONS)
def test_options_change_the_contract_and_not_the_numbers(
    case: str, mini_mat: Path, tmp_path: Path, captures: Captures, images: Array
) -> None:
    import onnx

    options, inputs = ONNX_OPTIONS[case]
    folder = convert(Request(source(mini_mat), tmp_path, ("onnx",), options=options))
    model = onnx.load(folder / "model.onnx")
    assert contract(model)[0] == inputs
    assert model.opset_import[0].version == options.opset
    found = captures["model.onnx"](folder / "model.onnx", images)
    for layer, values in oracle.run(mini(), images).items():
        assert distance(found[layer], values) < 3e-6, layer


def test_a_crop_keeps_the_first_dimensions_and_normalises_again(
    mini_mat: Path, tmp_path: Path, captures: Captures, images: Array
) -> None:
    folder = convert(Request(source(mini_mat), tmp_path, ("onnx",), dimension=5))
    assert folder.name == "net_dim5"
    found = captures["model.onnx"](folder / "model.onnx", images)["finalL2"]
    whole = oracle.run(mini(), images)["finalL2"][:, :5]
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    assert distance(found, expected) < 3e-6
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "first 5 outputs" in manifest["transformations"][0]


def test_float64_weights_are_rounded_and_said_so(tmp_path: Path) -> None:
    wide = {name: value.astype(np.float64) for name, value in mini().tensors.items()}
    matconvnet.write(replace(mini(), tensors=wide), tmp_path / "wide.mat")
    folder = convert(Request(source(tmp_path / "wide.mat"), tmp_path / "out", ("weights",)))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["transformations"][0].startswith("rounded from float64 to float32: ")


def test_a_model_goes_through_again(mini_artifacts: Path, tmp_path: Path) -> None:
    """A trained Keras file is a source like any other."""
    from converters import formats
    from converters.convert import weights_of
    from converters.recognise import spec_from

    expected = weights_of(mini(), spec_from(mini()))
    for file in ("model.keras", "model.h5", "model.weights.h5"):
        checkpoint = formats.read(mini_artifacts / file)
        found = weights_of(checkpoint, spec_from(checkpoint))
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


# Refused, with nothing changed.


def changed(tmp_path: Path, name: str, index: tuple[int, ...]) -> Path:
    tensors = {key: value.copy() for key, value in mini().tensors.items()}
    tensors[name][index] += 1
    matconvnet.write(replace(mini(), tensors=tensors), tmp_path / "changed.mat")
    return tmp_path / "changed.mat"


def test_two_files_that_differ_are_refused_by_tensor(mini_mat: Path, tmp_path: Path) -> None:
    other = changed(tmp_path, "conv3_2/weights/1", (4,))
    with pytest.raises(MappingError) as caught:
        convert(Request(source(mini_mat, other), tmp_path / "out"))
    assert caught.value.misfits == {"conv3_2/bias": "1 of 12 values differ"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".net.lock"]


def test_a_source_that_cannot_be_read_leaves_the_old_artifacts(
    mini_artifacts: Path, mini_mat: Path, tmp_path: Path
) -> None:
    shutil.copytree(mini_artifacts, tmp_path / "out" / "net")
    before = (tmp_path / "out" / "net" / "manifest.json").read_bytes()
    cut = tmp_path / "cut.mat"
    cut.write_bytes(mini_mat.read_bytes()[:5000])
    with pytest.raises(ReadError, match=r"cut\.mat"):
        convert(Request(source(cut), tmp_path / "out"))
    assert (tmp_path / "out" / "net" / "manifest.json").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".net.lock", "net"]


def test_a_folder_that_is_not_ours_is_not_replaced(mini_mat: Path, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "thesis.tex").write_text("years of work")
    with pytest.raises(EnvironmentFailure, match="not ours to replace"):
        convert(Request(source(mini_mat), tmp_path))
    assert (tmp_path / "net" / "thesis.tex").read_text() == "years of work"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"formats": ("onnx", "caffe")}, "unknown format caffe"),
    "dimension": ({"dimension": 17}, "17 of 16"),
    "opset": ({"options": WriteOptions(opset=19), "formats": ("onnx",)}, "opset 19"),
    "size": ({"options": WriteOptions(size=(15, 64)), "formats": ("onnx",)}, "at least 16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_makes_no_sense_is_refused(
    case: str, mini_mat: Path, tmp_path: Path
) -> None:
    changes, reason = REFUSED[case]
    with pytest.raises(ConversionError, match=reason):
        convert(replace(Request(source(mini_mat), tmp_path), **changes))
    assert not (tmp_path / "net").exists()


# MatConvNet's own outputs.


def golden(path: Path) -> dict[str, Array]:
    """Layers in order; H×W×C(×N) as MatConvNet has them, here N×H×W×C, vectors N×D."""
    layers = {}
    with np.load(path) as archive:
        for key in archive.files:
            layer = key.split("|")[1]
            values = archive[key]
            values = values[..., None] if values.ndim == 3 else values
            values = values.transpose(3, 0, 1, 2)
            layers[layer] = values.reshape(len(values), -1) if layer in VECTORS else values
    return layers


@pytest.fixture(scope="session")
def fixture_images(shared_data: Path) -> Array:
    import scipy.io

    content = scipy.io.loadmat(shared_data / "fixtures" / "image_67x90x3x2.mat")
    (image,) = (value for name, value in content.items() if not name.startswith("__"))
    return np.asarray(image).transpose(3, 0, 1, 2)


@pytest.mark.parametrize(
    ("file", "outputs"),
    [
        ("vgg_mcosdef_fw4_v73.mat", "vgg_small.golden.npz"),
        ("caffe_struct.mat", "caffe_small.golden.npz"),
    ],
)
def test_small_nets_give_matconvnet_s_outputs(
    file: str,
    outputs: str,
    shared_data: Path,
    tmp_path: Path,
    captures: Captures,
    fixture_images: Array,
) -> None:
    folder = convert(Request(source(shared_data / "fixtures" / file), tmp_path))
    expected = golden(shared_data / "fixtures" / outputs)
    for artifact, capture in captures.items():
        found = capture(folder / artifact, fixture_images)
        assert found.keys() == expected.keys()
        for layer, values in expected.items():
            assert distance(found[layer], values) < 3e-6, (artifact, layer)


@pytest.mark.parametrize("pooling", ["Max", "Avg"])
def test_total_pooling_gives_matconvnet_s_outputs(
    pooling: str, shared_data: Path, tmp_path: Path, captures: Captures, fixture_images: Array
) -> None:
    """The core pools the last convolution, whose output MatConvNet gave."""
    file = shared_data / "fixtures" / f"layerTotal{pooling}Pool_fw3_v7.mat"
    folder = convert(Request(source(file), tmp_path))
    features = golden(shared_data / "fixtures" / "vgg_small.golden.npz")["conv2_1"]
    wide = features.astype(np.float64)
    pooled = wide.max(axis=(1, 2)) if pooling == "Max" else wide.mean(axis=(1, 2))
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    for artifact, capture in captures.items():
        found = capture(folder / artifact, fixture_images)
        assert distance(found[f"{pooling.lower()}:core"], pooled) < 3e-6, artifact
        assert distance(found["postL2"], expected) < 3e-6, artifact


def test_real_weights_give_matconvnet_s_outputs(
    shared_data: Path, tmp_path: Path, captures: Captures
) -> None:
    """VGG-16 with NetVLAD; behind preL2 the sharp softmax amplifies float32's rounding."""
    data = shared_data / "netvlad"
    files = (data / "vd16_white64_classes_v7.mat", data / "vd16_white64")
    folder = convert(Request(source(*files), tmp_path))  # and the two hold the same weights
    expected = golden(data / "matconvnet_layers_query_96x128.npz")
    image = np.load(data / "image_query_96x128.npy")[None]
    layers = list(expected)
    for artifact, capture in captures.items():
        found = capture(folder / artifact, image)
        assert found.keys() == expected.keys()
        for layer, values in expected.items():
            early = layers.index(layer) <= layers.index("preL2")
            assert distance(found[layer], values) < (2e-6 if early else 5e-5), (artifact, layer)
        error = np.linalg.norm(found["finalL2"] - expected["finalL2"])
        assert error < 1e-5, artifact
