"""Saving, loading, and what `load_weights` refuses before a single variable changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from netvlad_keras import NetVLADModel, NetVLADSpec, WeightsError  # noqa: E402
from netvlad_keras.trunks import MINI  # noqa: E402
from netvlad_keras.weights import opened  # noqa: E402

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("model.keras", "model.h5", "model.weights.h5")


@pytest.fixture(scope="module")
def spec(specs: dict[str, NetVLADSpec]) -> NetVLADSpec:
    """All the layers of the published net on a small trunk."""
    return specs["vgg-vlad_preL2_intra_white"]


@pytest.fixture(scope="module")
def arrays(spec: NetVLADSpec, drawn: Any) -> dict[str, Array]:
    """Weights of `spec`; the mean is not the spec's."""
    return {**drawn(spec), "input/mean": np.asarray([1.5, 2.25, 3.125], np.float32)}


@pytest.fixture(scope="module")
def folder(
    spec: NetVLADSpec, arrays: dict[str, Array], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The three formats of one model, which no test may change."""
    model = NetVLADModel(spec)
    model.assign(arrays)
    path = tmp_path_factory.mktemp("saved")
    for name in FORMATS:
        (model.save_weights if "weights" in name else model.save)(path / name)
    return path


@pytest.fixture(scope="module")
def shared(spec: NetVLADSpec) -> NetVLADModel:
    return NetVLADModel(spec)


@pytest.fixture
def model(shared: NetVLADModel) -> NetVLADModel:
    """A model of `spec` with its own number in every weight."""
    for number, variable in enumerate(shared.weights):
        variable.assign(np.full(variable.shape, 100.0 + number))
    return shared


def _holds(model: NetVLADModel, arrays: dict[str, Array]) -> None:
    for name, variable in model.canonical_weights.items():
        np.testing.assert_array_equal(variable, arrays[name], err_msg=name)


def _refused(model: NetVLADModel, path: Path) -> WeightsError:
    """Try to load: a WeightsError that names the file, and no variable has changed."""
    with pytest.raises(WeightsError) as caught:
        model.load_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    for number, variable in enumerate(model.weights):
        np.testing.assert_array_equal(variable, 100.0 + number, err_msg=variable.path)
    return caught.value


# --- files that are none ---


def _truncated(name: str, part: float) -> Callable[[Path, Path], Path]:
    def write(folder: Path, target: Path) -> Path:
        content = (folder / name).read_bytes()
        (target / name).write_bytes(content[: int(len(content) * part)])
        return target / name

    return write


def _content(name: str, content: bytes) -> Callable[[Path, Path], Path]:
    def write(_: Path, target: Path) -> Path:
        (target / name).write_bytes(content)
        return target / name

    return write


def _archive(**members: bytes) -> Callable[[Path, Path], Path]:
    def write(_: Path, target: Path) -> Path:
        path = target / "x.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name.replace("__", "."), content)
        return path

    return write


BROKEN: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "missing": (lambda _, target: target / "x.h5", "there is no such file"),
    "directory": (lambda _, target: target, "there is no such file"),
    "empty": (_content("x.h5", b""), "cannot be read"),
    "text": (_content("x.weights.h5", b"conv1_1 0.1 0.2\n"), "cannot be read"),
    "png": (_content("x.h5", b"\x89PNG\r\n\x1a\n" + bytes(64)), "cannot be read"),
    "h5 head": (_truncated("model.h5", 0.01), "cannot be read"),
    "h5 half": (_truncated("model.h5", 0.5), "cannot be read"),
    "h5 less a little": (_truncated("model.h5", 0.98), "cannot be read"),
    "weights half": (_truncated("model.weights.h5", 0.5), "cannot be read"),
    "keras half": (_truncated("model.keras", 0.5), "cannot be read"),
    "keras less a little": (_truncated("model.keras", 0.99), "cannot be read"),
    "zip of something": (_archive(readme=b"hello"), "cannot be read"),
    "zip of no HDF5": (_archive(model__weights__h5=b"no", config__json=b"{}"), "cannot be read"),
    "zip that swells": (_archive(model__weights__h5=bytes(10**7)), "swell to more than 64 times"),
}


@pytest.mark.parametrize("case_", BROKEN)
def test_a_broken_file_is_refused(
    model: NetVLADModel, folder: Path, tmp_path: Path, case_: str
) -> None:
    write, message = BROKEN[case_]
    assert message in _refused(model, write(folder, tmp_path)).reason


@pytest.mark.parametrize("part", np.linspace(0.05, 0.95, 7).round(2))
@pytest.mark.parametrize("name", FORMATS)
def test_no_part_of_a_file_is_taken_for_the_whole(
    model: NetVLADModel, folder: Path, tmp_path: Path, name: str, part: float
) -> None:
    _refused(model, _truncated(name, part)(folder, tmp_path))


@pytest.mark.parametrize("option", ["by_name", "skip_mismatch"])
def test_nothing_is_loaded_in_part_on_request_either(
    model: NetVLADModel, folder: Path, option: str
) -> None:
    with pytest.raises(TypeError, match=option):
        model.load_weights(folder / "model.h5", **{option: True})
    assert model.weights[0].numpy()[0] == 100


# --- HDF5 files of something else ---


def _h5(write: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def make(target: Path) -> Path:
        with h5py.File(target / "x.h5", "w") as file:
            write(file)
        return target / "x.h5"

    return make


def _any_hdf5(file: h5py.File) -> None:
    file["conv1_1/kernel"] = np.ones((3, 3, 3, 6))


def _no_names(file: h5py.File) -> None:
    file.attrs["layer_names"] = []


def _a_number_for_names(file: h5py.File) -> None:
    file.attrs["layer_names"] = 7


def _names_of_nothing(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"conv2d"]


def _dataset_for_layers(file: h5py.File) -> None:
    file["layers"] = np.ones(3)


def _group_for_weight(file: h5py.File) -> None:
    file.create_group("layers/convolution/vars/0")


def _endless(file: h5py.File) -> None:
    file.create_group("layers/convolution")
    file["layers/convolution/again"] = file["layers"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_any_hdf5, "not a NetVLAD weights file"),
        (lambda file: None, "not a NetVLAD weights file"),
        (_no_names, "not this model's"),
        (_a_number_for_names, "cannot be read"),
        (_names_of_nothing, "names conv2d, which is not there"),
        (_dataset_for_layers, "cannot be read"),
        (_group_for_weight, "is not an array of floating-point numbers"),
        (_endless, "cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_hdf5_file_of_something_else_is_refused(
    model: NetVLADModel, tmp_path: Path, write: Callable[[h5py.File], None], message: str
) -> None:
    assert message in _refused(model, _h5(write)(tmp_path)).reason


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional classifier as Keras 3 saves it, in all formats."""
    net = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 3, padding="same", name="conv1_1"),
            keras.layers.BatchNormalization(name="bn"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, name="WPCA"),
        ]
    )
    path = tmp_path_factory.mktemp("stranger")
    for name in FORMATS:
        (net.save_weights if "weights" in name else net.save)(path / name)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_another_net_of_keras_is_refused_with_every_entry(
    model: NetVLADModel, spec: NetVLADSpec, stranger: Path, name: str
) -> None:
    error = _refused(model, stranger / name)
    shared = {"conv1_1/kernel", "conv1_1/bias", "WPCA/kernel", "WPCA/bias"}
    assert set(error.missing) == spec.weight_shapes.keys() - shared
    assert len(error.unexpected) == 4
    assert all(entry.startswith("bn/") for entry in error.unexpected)
    assert error.misshapen == ("WPCA/kernel is (6, 5), the model has (24, 5)",)
    for entry in (*error.missing, *error.unexpected, *error.misshapen):
        assert f"{entry}\n" in f"{error}\n"


def test_weights_of_a_layer_within_a_layer_are_not_overlooked(
    model: NetVLADModel, folder: Path, tmp_path: Path
) -> None:
    path = _copy(folder / "model.weights.h5", tmp_path)
    with h5py.File(path, "a") as file:
        file["layers/dense/inner/vars/0"] = np.ones(3)
        file["layers/dense/inner/vars"].attrs["name"] = "adapter"
    assert _refused(model, path).unexpected == ("adapter/0",)


# --- weights of a NetVLAD, but not of this one ---


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("change", "missing", "unexpected", "misshapen"),
    [
        (
            {"clusters": 4},
            (),
            (),
            (
                "vlad:core/assignment is (8, 4), the model has (8, 3)",
                "vlad:core/centers is (8, 4), the model has (8, 3)",
                "WPCA/kernel is (32, 5), the model has (24, 5)",
            ),
        ),
        ({"whitening": 0}, ("WPCA/kernel", "WPCA/bias"), (), ()),
        ({"pooling": "vladv2"}, (), ("vlad:core/bias",), ()),
    ],
    ids=str,
)
def test_another_spec_is_refused_with_every_entry(
    model: NetVLADModel,
    spec: NetVLADSpec,
    tmp_path: Path,
    name: str,
    change: dict[str, Any],
    missing: tuple[str, ...],
    unexpected: tuple[str, ...],
    misshapen: tuple[str, ...],
) -> None:
    other = NetVLADModel(replace(spec, **change), zeros=True)
    (other.save_weights if "weights" in name else other.save)(tmp_path / name)
    error = _refused(model, tmp_path / name)
    assert (error.missing, error.unexpected, error.misshapen) == (missing, unexpected, misshapen)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("change", [{"intranorm": False}, {"prel2": False}], ids=str)
def test_the_same_shapes_of_another_net_are_refused(
    model: NetVLADModel, spec: NetVLADSpec, tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    NetVLADModel(replace(spec, **change), zeros=True).save(tmp_path / name)
    assert f"differs in {next(iter(change))}" in _refused(model, tmp_path / name).reason


def test_another_name_or_mean_is_no_other_net(
    model: NetVLADModel, spec: NetVLADSpec, arrays: dict[str, Array], tmp_path: Path
) -> None:
    other = NetVLADModel(replace(spec, name="renamed", mean=(0.0, 0.0, 0.0)))
    other.assign(arrays)
    other.save(tmp_path / "x.h5")
    model.load_weights(tmp_path / "x.h5")
    _holds(model, arrays)


def _copy(path: Path, target: Path) -> Path:
    (target / path.name).write_bytes(path.read_bytes())
    return target / path.name


def test_every_misfit_stands_in_one_error(
    model: NetVLADModel, folder: Path, tmp_path: Path
) -> None:
    path = _copy(folder / "model.h5", tmp_path)
    with h5py.File(path, "a") as file:
        layers = file["model_weights"]
        layers["conv1_1"].attrs["weight_names"] = ["conv1_1/kernel"]
        layers["conv1_2"].attrs["weight_names"] = ["conv1_2/kernel", "conv1_2/bias", "gamma"]
        layers["conv1_2/gamma"] = np.ones(6)
        for name in ("conv2_1/conv2_1/kernel", "WPCA/WPCA/kernel"):  # swapped axes
            values = layers[name][()]
            del layers[name]
            layers[name] = values.swapaxes(-1, -2)
    error = _refused(model, path)
    assert error.missing == ("conv1_1/bias",)
    assert error.unexpected == ("conv1_2/gamma",)
    assert error.misshapen == (
        "conv2_1/kernel is (3, 3, 8, 6), the model has (3, 3, 6, 8)",
        "WPCA/kernel is (5, 24), the model has (24, 5)",
    )
    assert str(error).count("\n  ") == 4


def test_a_weight_that_stands_twice_is_refused(
    model: NetVLADModel, folder: Path, tmp_path: Path
) -> None:
    path = _copy(folder / "model.weights.h5", tmp_path)
    with h5py.File(path, "a") as file:
        file.copy("layers/dense", "layers/dense_1")
    assert "holds WPCA/kernel twice" in _refused(model, path).reason


def test_assign_names_every_misfit_too(model: NetVLADModel, arrays: dict[str, Array]) -> None:
    wrong = {**arrays, "WPCA/bias": np.ones((5, 1)), "extra": np.ones(1)}
    del wrong["conv1_1/bias"]
    with pytest.raises(WeightsError) as caught:
        model.assign(wrong)
    assert caught.value.missing == ("conv1_1/bias",)
    assert caught.value.unexpected == ("extra",)
    assert caught.value.misshapen == ("WPCA/bias is (5, 1), the model has (5,)",)
    assert model.weights[0].numpy()[0] == 100


# --- values ---

KERNEL = "layers/convolution_2/vars/0"  # conv2_1/kernel, (3, 3, 6, 8)


def _replace(write: Callable[[h5py.File, Array], None]) -> Callable[[Path, Path], Path]:
    def make(folder: Path, target: Path) -> Path:
        path = _copy(folder / "model.weights.h5", target)
        with h5py.File(path, "a") as file:
            values = file[KERNEL][()]
            del file[KERNEL]
            write(file, values)
        return path

    return make


def _spoilt(value: float) -> Callable[[h5py.File, Array], None]:
    def write(file: h5py.File, values: Array) -> None:
        values[0, 1, 2, 3] = value
        file[KERNEL] = values

    return write


def _external_link(file: h5py.File, values: Array) -> None:
    file[KERNEL] = h5py.ExternalLink("other.h5", "/x")


def _soft_link(file: h5py.File, values: Array) -> None:
    file["elsewhere"] = values
    file[KERNEL] = h5py.SoftLink("/elsewhere")


def _external_storage(file: h5py.File, values: Array) -> None:
    raw = Path(file.filename).with_name("secret.bin")
    raw.write_bytes(values.tobytes())
    file.create_dataset(KERNEL, values.shape, "f4", external=[(str(raw), 0, values.nbytes)])


def _virtual(file: h5py.File, values: Array) -> None:
    layout = h5py.VirtualLayout(values.shape, "f4")
    layout[...] = h5py.VirtualSource("other.h5", "x", values.shape)
    file.create_virtual_dataset(KERNEL, layout)


def _never_written(file: h5py.File, values: Array) -> None:
    file.create_dataset(KERNEL, values.shape, "f4", chunks=values.shape)


def _integers(file: h5py.File, values: Array) -> None:
    file[KERNEL] = values.astype("i4")


def _words(file: h5py.File, values: Array) -> None:
    file.create_dataset(KERNEL, values.shape, h5py.string_dtype())


def _pairs(file: h5py.File, values: Array) -> None:
    file.create_dataset(KERNEL, values.shape, "c8")


def _rotten_chunk(file: h5py.File, values: Array) -> None:
    options: dict[str, Any] = {"chunks": values.shape, "compression": "gzip"}
    dataset = file.create_dataset(KERNEL, data=values, fletcher32=True, **options)
    offset = dataset.id.get_chunk_info(0).byte_offset
    file.flush()
    with Path(file.filename).open("r+b") as raw:
        raw.seek(offset + 200)
        raw.write(b"rotten")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_spoilt(float("nan")), "NaN or infinity in conv2_1/kernel"),
        (_spoilt(float("-inf")), "NaN or infinity in conv2_1/kernel"),
        (_external_link, "leads out of the file"),
        (_soft_link, "leads out of the file"),
        (_external_storage, "keeps its values in another file"),
        (_virtual, "keeps its values in another file"),
        (_never_written, "was never written"),
        (_integers, "is not an array of floating-point numbers"),
        (_words, "is not an array of floating-point numbers"),
        (_pairs, "is not an array of floating-point numbers"),
        (_rotten_chunk, "cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_values_that_are_none_are_refused(
    model: NetVLADModel,
    folder: Path,
    tmp_path: Path,
    write: Callable[[h5py.File, Array], None],
    message: str,
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones((3, 3, 6, 8), "f4")
    assert message in _refused(model, _replace(write)(folder, tmp_path)).reason


def test_every_weight_with_nan_is_named(model: NetVLADModel, folder: Path, tmp_path: Path) -> None:
    path = _copy(folder / "model.h5", tmp_path)
    with h5py.File(path, "a") as file:
        file["model_weights/WPCA/WPCA/bias"][2] = np.nan
        file["model_weights/conv1_1/conv1_1/kernel"][0, 0, 0, 0] = np.inf
    reason = _refused(model, path).reason
    assert reason == f"{path}: NaN or infinity in conv1_1/kernel, WPCA/bias"


def test_double_precision_is_read(
    model: NetVLADModel, folder: Path, arrays: dict[str, Array], tmp_path: Path
) -> None:
    def write(file: h5py.File, values: Array) -> None:
        file[KERNEL] = values.astype(">f8")

    model.load_weights(_replace(write)(folder, tmp_path))
    _holds(model, arrays)


# --- files of this project ---


@pytest.mark.parametrize("name", FORMATS)
def test_load_weights_takes_each_of_our_formats(
    model: NetVLADModel, folder: Path, arrays: dict[str, Array], name: str
) -> None:
    model.load_weights(str(folder / name))
    _holds(model, arrays)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_s_weights_can_be_listed_without_a_model(
    spec: NetVLADSpec, folder: Path, arrays: dict[str, Array], name: str
) -> None:
    with opened(folder / name) as file:
        assert {entry: stored.shape for entry, stored in file.entries.items()} == (
            spec.weight_shapes
        )
        np.testing.assert_array_equal(file.entries["WPCA/kernel"], arrays["WPCA/kernel"])
        assert file.lacks == frozenset()
        assert file.layout == ("model" if name == "model.h5" else "weights")
        assert file.spec == (None if name == "model.weights.h5" else spec)


CHILD = """
import json, sys
import numpy as np
import keras
from netvlad_keras import NetVLADModel, NetVLADSpec

images = np.load(sys.argv[1])
found = {}
for path in sys.argv[2:]:
    if path.endswith(".weights.h5"):
        with open(path + ".json") as file:
            model = NetVLADModel(NetVLADSpec.from_dict(json.load(file)))
        model.load_weights(path)
    else:
        model = keras.saving.load_model(path)  # no custom_objects, safe_mode on
    assert type(model) is NetVLADModel
    found[path] = [
        model.predict(images, verbose=0).tobytes().hex(),
        model.get_layer("input").get_weights()[0].tolist(),
        model.spec.to_dict(),
    ]
print(json.dumps(found))
"""


def test_a_fresh_process_gives_the_same_descriptor_to_the_bit(
    specs: dict[str, NetVLADSpec], drawn: Any, images: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", images())
    expected = {}
    for case in ("vgg-vlad_preL2_intra_white", "alex-vladv2_preL2", "alex-max_white"):
        model = NetVLADModel(specs[case])
        model.assign({**drawn(specs[case]), "input/mean": np.asarray([9.5, 8.25, 7.125])})
        if case.startswith("vgg"):
            model.compile("adam", keras.losses.MeanSquaredError())
        bits = model.predict(images(), verbose=0).tobytes().hex()
        for name in FORMATS:
            path = tmp_path / f"{case}.{name}"
            (model.save_weights if "weights" in name else model.save)(path)
            Path(f"{path}.json").write_text(json.dumps(specs[case].to_dict()))
            expected[str(path)] = [bits, [9.5, 8.25, 7.125], specs[case].to_dict()]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "images.npy"), *expected],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


def test_the_class_is_known_by_its_bare_name() -> None:
    assert keras.saving.get_custom_objects()["NetVLADModel"] is NetVLADModel
    assert keras.saving.get_registered_name(NetVLADModel) == "netvlad_keras>NetVLADModel"


def test_a_compiled_model_goes_on_training_where_it_stopped(
    spec: NetVLADSpec, arrays: dict[str, Array], images: Any, tmp_path: Path
) -> None:
    # .keras alone: of an .h5 file Keras 3.15 restores no optimizer that can go on
    model = NetVLADModel(spec)
    model.assign(arrays)
    for layer in ("conv1_1", "conv1_2"):
        model.get_layer(layer).trainable = False
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.MeanSquaredError(),
        jit_compile=False,
    )
    x, y = images(2, 4, 4), np.ones((2, 5))
    for _ in range(2):
        model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert [v.path for v in again.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]
    assert int(again.optimizer.iterations) == 2
    for one in (model, again):
        one.train_on_batch(x, y)
    frozen = {n for n in arrays if np.array_equal(again.canonical_weights[n], arrays[n])}
    assert frozen == {"input/mean", *(n for n in arrays if n.startswith("conv1_"))}
    for layer, variable in again.canonical_weights.items():
        expected = model.canonical_weights[layer].numpy()
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6, err_msg=layer)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_what_was_frozen_stays_frozen(spec: NetVLADSpec, tmp_path: Path, name: str) -> None:
    model = NetVLADModel(spec, name="eyes")
    model.get_layer("conv1_2").trainable = False
    model.save(tmp_path / name)
    again = keras.saving.load_model(tmp_path / name)
    frozen = [layer.name for layer in again.layers if not layer.trainable]
    assert (again.name, again.trainable, frozen) == ("eyes", True, ["conv1_2"])

    model.trainable = False
    model.save(tmp_path / name)
    again = keras.saving.load_model(tmp_path / name)
    assert (again.trainable, again.trainable_variables) == (False, [])


# --- the first port's file ---

#: The 29 layers of the first port's Sequential, without their numbers.
OLD_LAYERS = [
    "substract_average",
    "conv2d",
    "conv2d",
    "max_pooling2d",
    "activation",
    "conv2d",
    "conv2d",
    "max_pooling2d",
    "activation",
    "conv2d",
    "conv2d",
    "conv2d",
    "max_pooling2d",
    "activation",
    "conv2d",
    "conv2d",
    "conv2d",
    "max_pooling2d",
    "activation",
    "conv2d",
    "conv2d",
    "conv2d",
    "lambda",
    "net_vlad",
    "lambda",
    "lambda",
    "conv2d",
    "flatten",
    "lambda",
]


@pytest.fixture(scope="module")
def old_spec() -> NetVLADSpec:
    return NetVLADSpec(trunk=MINI, clusters=3, whitening=5, mean=(120.0, 110.0, 100.0), name="")


@pytest.fixture(scope="module")
def old_arrays(old_spec: NetVLADSpec, drawn: Any) -> dict[str, Array]:
    arrays: dict[str, Array] = drawn(old_spec, 4)
    return arrays


@pytest.fixture(scope="module")
def old_shared(old_spec: NetVLADSpec) -> NetVLADModel:
    return NetVLADModel(old_spec)


@pytest.fixture
def old_model(old_shared: NetVLADModel) -> NetVLADModel:
    for number, variable in enumerate(old_shared.weights):
        variable.assign(np.full(variable.shape, 100.0 + number))
    return old_shared


def _old_names(first: int) -> list[str]:
    """Numbered as Keras does, from 0 (which is not written) or from 1."""
    seen: dict[str, int] = {}
    names = []
    for kind in OLD_LAYERS:
        if kind == "conv2d" and seen.get("net_vlad"):
            seen["conv2d"] += 1  # the convolution within NetVLAD took a number
        number = seen.get(kind, 0) + first
        seen[kind] = seen.get(kind, 0) + 1
        names.append(f"{kind}_{number}" if number else kind)
    return names


def _old_content(arrays: dict[str, Array], with_mean: bool) -> list[list[tuple[str, Array]]]:
    """Each layer's weights as the first port held them: MatConvNet's sign, ones in the shape."""
    trunk = iter(dict.fromkeys(n.partition("/")[0] for n in arrays if n.startswith("conv")))
    content: list[list[tuple[str, Array]]] = []
    for kind in OLD_LAYERS:
        if kind == "conv2d" and (name := next(trunk, "WPCA")):
            kernel = arrays[f"{name}/kernel"]
            kernel = kernel[None, None] if name == "WPCA" else kernel
            content.append([("kernel", kernel), ("bias", arrays[f"{name}/bias"])])
        elif kind == "net_vlad":
            centers = -arrays["vlad:core/centers"][None, None, None]
            assignment = arrays["vlad:core/assignment"][None, None]
            content.append([("cluster_centers", centers), ("kernel", assignment)])
        elif kind == "substract_average" and with_mean:
            content.append([("average_rgb", arrays["input/mean"])])
        else:
            content.append([])
    return content


def _write_old(path: Path, names: list[str], content: list[list[tuple[str, Array]]]) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.2.4"
        for layer, entries in zip(names, content, strict=True):
            group = file.create_group(layer)
            weights = [f"{layer}/{name}:0" for name, _ in entries]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, (_, values) in zip(weights, entries, strict=True):
                group[weight] = values
    return path


@pytest.mark.parametrize("with_mean", [False, True])
@pytest.mark.parametrize(("first", "last"), [(0, "conv2d_14"), (1, "conv2d_15")])
def test_the_first_port_s_file_is_read(
    old_model: NetVLADModel,
    old_arrays: dict[str, Array],
    tmp_path: Path,
    first: int,
    last: str,
    with_mean: bool,
) -> None:
    names = _old_names(first)
    assert (len(names), names[26]) == (29, last)
    content = _old_content(old_arrays, with_mean)
    old_model.load_weights(_write_old(tmp_path / "netvlad_weights.h5", names, content))
    own = np.full(3, 100.0, np.float32)  # the model's own mean stays where the file has none
    _holds(old_model, {**old_arrays, **({} if with_mean else {"input/mean": own})})


def test_the_first_port_s_file_gives_its_descriptor(
    old_spec: NetVLADSpec,
    old_arrays: dict[str, Array],
    images: Any,
    reference: Any,
    tmp_path: Path,
) -> None:
    model = NetVLADModel(old_spec)
    content = _old_content(old_arrays, False)
    model.load_weights(_write_old(tmp_path / "netvlad_weights.h5", _old_names(0), content))
    expected = reference.descriptor(old_spec, old_arrays, images(2, 16, 20))
    found = model.predict_on_batch(images(2, 16, 20))
    assert np.linalg.norm(found - expected, axis=1).max() < 1e-5


def _swap_vlad(content: list[list[tuple[str, Array]]]) -> None:
    content[23].reverse()


def _drop_conv(content: list[list[tuple[str, Array]]]) -> None:
    content[5].clear()


def _wide_whitening(content: list[list[tuple[str, Array]]]) -> None:
    kernel = content[26][0][1]
    content[26][0] = ("kernel", np.broadcast_to(kernel, (3, 3, *kernel.shape[2:])))


def _add_dense(content: list[list[tuple[str, Array]]]) -> None:
    content[27].extend([("kernel", np.ones((5, 2))), ("bias", np.ones(2))])


def _add_conv(content: list[list[tuple[str, Array]]]) -> None:
    content[28].extend([("kernel", np.ones((1, 1, 5, 2))), ("bias", np.ones(2))])


def _two_means(content: list[list[tuple[str, Array]]]) -> None:
    for index in (0, 3):
        content[index] = [("average_rgb", np.ones(3))]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_swap_vlad, "unexpected: net_vlad/0"),
        (_drop_conv, "missing: WPCA/kernel"),
        (_wide_whitening, "WPCA/kernel is (3, 3, 48, 5), the model has (48, 5)"),
        (_add_dense, "unexpected: flatten/1"),
        (_add_conv, "unexpected: lambda_3/kernel"),
        (_two_means, "holds input/mean twice"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_old_file_of_another_net_is_refused(
    old_model: NetVLADModel,
    old_arrays: dict[str, Array],
    tmp_path: Path,
    spoil: Callable[[list[list[tuple[str, Array]]]], None],
    message: str,
) -> None:
    content = _old_content(old_arrays, False)
    spoil(content)
    path = _write_old(tmp_path / "netvlad_weights.h5", _old_names(0), content)
    assert message in str(_refused(old_model, path))


def test_an_old_file_is_refused_by_a_net_of_another_trunk(
    model: NetVLADModel, old_arrays: dict[str, Array], tmp_path: Path
) -> None:
    content = _old_content(old_arrays, True)
    error = _refused(model, _write_old(tmp_path / "x.h5", _old_names(0), content))
    assert "conv5_3/kernel" in error.unexpected
    assert "conv1_1/kernel is (3, 3, 3, 8), the model has (3, 3, 3, 6)" in error.misshapen
