"""Layers that are objects of NetVLAD's classes, written by mat-io, read by us."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from converters.errors import EnvironmentFailure, LayerError, ReadError
from converters.readers.matconvnet import read

matio = pytest.importorskip("matio", reason="mat-io decodes class objects")

WEIGHTS = np.random.default_rng(3).standard_normal((1, 1, 5, 4), dtype=np.float32)
ROW = np.arange(4, dtype=np.float32).reshape(1, 4)


def struct(**fields: Any) -> Any:
    made = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        made[0, 0][name] = value
    return made


def cell(*items: Any) -> Any:
    made = np.empty((1, len(items)), dtype=object)
    for index, item in enumerate(items):
        made[0, index] = item
    return made


def instance(classname: str, **properties: Any) -> Any:
    from matio.utils.matclass import MatlabOpaque

    values = {k: np.array([v]) if isinstance(v, str) else v for k, v in properties.items()}
    return MatlabOpaque(values, classname)


def vlad(*weights: Any, version: str = "") -> Any:
    saved = struct(type="custom", name="vlad:core", weights=cell(*weights))
    return instance(f"layerVLAD{version}", name="VLAD", any=saved)


@pytest.fixture(params=["v7", "v7.3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def save(folder: Path, version: str, *layers: Any) -> Path:
    path = folder / "net.mat"
    matio.save_to_mat(str(path), {"net": struct(layers=cell(*layers))}, version=version)
    return path


# --- what is refused


def test_gpu_arrays(tmp_path: Path, version: str) -> None:
    gpu = struct(type="conv", name="c", weights=cell(instance("gpuArray", size=ROW), ROW))
    path = save(tmp_path, version, gpu, vlad(WEIGHTS, WEIGHTS))
    with pytest.raises(LayerError) as caught:
        read(path)
    assert list(caught.value.faults) == ["c"]
    assert "weights/0 is an object of class gpuArray" in caught.value.faults["c"]
    assert "gather it before saving" in caught.value.faults["c"]


def test_gpu_array_within_an_object(tmp_path: Path, version: str) -> None:
    with pytest.raises(LayerError, match=r"gpuArray.* gather it"):
        read(save(tmp_path, version, vlad(instance("gpuArray", size=ROW), WEIGHTS)))


@pytest.mark.parametrize("count", [1, 3])
def test_wrong_count_of_weights(tmp_path: Path, version: str, count: int) -> None:
    with pytest.raises(LayerError) as caught:
        read(save(tmp_path, version, vlad(*[WEIGHTS] * count)))
    assert caught.value.faults == {"vlad:core": f"has {count} weights where a layerVLAD has 2"}


def test_no_subsystem(tmp_path: Path, version: str) -> None:
    path = save(tmp_path, version, vlad(WEIGHTS, WEIGHTS), instance("layerWholeL2Normalize"))
    if version == "v7":
        with path.open("r+b") as file:
            file.seek(116)
            file.write(bytes(8))
    else:
        with h5py.File(path, "r+") as file:
            del file["#subsystem#"]
    with pytest.raises(LayerError) as caught:
        read(path)
    assert list(caught.value.faults) == ["layer1", "layer2"]
    assert "layerVLAD that cannot be decoded: the file has no sub" in caught.value.faults["layer1"]
    assert "struct(net.layers{i})" in caught.value.faults["layer1"]


def test_subsystem_of_an_unknown_version(tmp_path: Path) -> None:
    path = save(tmp_path, "v7.3", vlad(WEIGHTS, WEIGHTS))
    with h5py.File(path, "r+") as file:
        words = file[file["#subsystem#/MCOS"][()].ravel()[0]]
        data = words[()]
        data.flat[0] = 9
        words[...] = data
    with pytest.raises(LayerError, match=r"layer1.*version 9 is not supported"):
        read(path)


def test_object_that_is_not_in_the_subsystem(tmp_path: Path) -> None:
    path = save(tmp_path, "v7.3", vlad(WEIGHTS, WEIGHTS))
    with h5py.File(path, "r+") as file:
        reference = file[file["net/layers"][()].ravel()[0]]
        words = reference[()]
        words.flat[4] = 77
        reference[...] = words
    with pytest.raises(LayerError, match=r"layer1: an object of class layerVLAD.*damaged"):
        read(path)


def test_subsystem_that_reaches_out_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, "v7.3", vlad(WEIGHTS, WEIGHTS))
    with h5py.File(path, "r+") as file:
        file["#subsystem#/java"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(ReadError, match="java is a link"):
        read(path)


def test_object_whose_values_lie_in_another_file(tmp_path: Path) -> None:
    path = save(tmp_path, "v7.3", vlad(WEIGHTS, WEIGHTS))
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"NOT-YOURS")
    with h5py.File(path, "r+") as file:
        data = file.create_dataset("#refs#/far", (1, 9), "u1", external=[(str(secret), 0, 9)])
        data.attrs["MATLAB_class"] = np.bytes_("uint8")
        cells = file["#subsystem#/MCOS"]
        references = cells[()]
        references.flat[2] = data.ref
        cells[...] = references
    with pytest.raises(ReadError, match="far keeps its data in another file"):
        read(path)


def test_without_mat_io(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = save(tmp_path, version, struct(type="relu", name="r")).rename(tmp_path / "plain.mat")
    path = save(tmp_path, version, vlad(WEIGHTS, WEIGHTS))
    for name in [name for name in sys.modules if name.split(".")[0] == "matio"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "converters.readers.mat_objects", raising=False)
    assert read(plain).layers[0].kind == "relu"
    with pytest.raises(EnvironmentFailure, match="layerVLAD") as caught:
        read(path)
    assert caught.value.advice == "pip install 'netvlad-keras[convert]'"


# --- what is read


def test_classes(tmp_path: Path, version: str) -> None:
    found = read(
        save(
            tmp_path,
            version,
            instance("layerTotalMaxPool", type="custom", name="max:core"),
            instance("layerTotalAvgPool", name="avg:core"),
            vlad(WEIGHTS, ROW, -WEIGHTS, version="v2"),
            instance("layerVLAD", name="plain", weights=cell(WEIGHTS, WEIGHTS)),
            instance("layerWholeL2Normalize", name="postL2"),
        )
    )
    assert [(layer.name, layer.kind, layer.inputs) for layer in found.layers] == [
        ("max:core", "layerTotalMaxPool", ("input",)),
        ("avg:core", "layerTotalAvgPool", ("max:core",)),
        ("vlad:core", "layerVLADv2", ("avg:core",)),
        ("plain", "layerVLAD", ("vlad:core",)),
        ("postL2", "layerWholeL2Normalize", ("plain",)),
    ]
    tensors = [found.tensors[name] for name in found.layers[2].params]
    for tensor, expected in zip(tensors, [WEIGHTS, ROW[0], -WEIGHTS], strict=True):
        np.testing.assert_array_equal(tensor, expected)


def test_unknown_classes_keep_their_names(tmp_path: Path, version: str) -> None:
    mine = instance("layerMine", name="a", factor=ROW, weights=cell(ROW))
    loss = instance("dagnn.MyLoss", size=ROW)
    found = read(save(tmp_path, version, mine, instance("dagnn.Own", name="b"), loss))
    assert [(layer.name, layer.kind, layer.options) for layer in found.layers] == [
        ("a", "layerMine", {"factor": (0, 1, 2, 3)}),
        ("b", "Own", {}),
    ]
    np.testing.assert_array_equal(found.tensors["a/weights/0"], ROW)
    assert found.origin.notes == ("left out: layer3, a MyLoss",)


# --- nets that are, or hold, objects of dagnn's own classes


def dagnn_net(convolution: Any, *, objects: bool) -> Any:
    """conv (3×3×2×2, padded) and relu, as DagNN keeps them."""
    filters = np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2) / 7
    layers = np.empty((1, 2), dtype=[(k, object) for k in ("name", "type", *CONNECTIONS, "block")])
    layers[0, 0] = ("c", "dagnn.Conv", cell("x"), cell("v"), cell("f"), convolution)
    relu = instance("dagnn.ReLU", leak=np.array([[0.5]])) if objects else struct(leak=0.5)
    layers[0, 1] = ("r", "dagnn.ReLU", "v", "y", np.zeros((0, 0)), relu)
    params = struct(name="f", value=filters, der=np.zeros((0, 0)))
    return {"layers": layers, "params": params, "vars": struct(name="x"), "meta": struct(a=1.0)}


CONNECTIONS = ("inputs", "outputs", "params")
PADDED = {"pad": np.array([[1.0, 1, 2, 2]]), "hasBias": np.array([[0.0]])}


def check_dagnn(path: Path) -> None:
    conv, relu = read(path).layers
    assert (conv.name, conv.kind, conv.inputs, conv.params, conv.output) == (
        *("c", "conv", ("x",), ("f",), "v"),
    )
    assert conv.options == {"pad": (1, 1, 2, 2), "stride": (1, 1), "dilate": (1, 1)}
    assert (relu.name, relu.kind, relu.inputs, relu.output) == ("r", "relu", ("c",), "y")
    assert relu.options == {"leak": 0.5}


def test_net_that_is_an_object_with_saveobj(tmp_path: Path, version: str) -> None:
    """The file holds one pseudo-property with the struct that `saveobj` returned."""
    path = tmp_path / "net.mat"
    saved = struct(**dagnn_net(struct(**PADDED), objects=False))
    content = {"opts": instance("Options", a=ROW), "net": instance("dagnn.DagNN", any=saved)}
    matio.save_to_mat(str(path), content | {"x": ROW}, version=version)
    check_dagnn(path)


def test_net_that_is_an_object_of_objects(tmp_path: Path, version: str) -> None:
    path = tmp_path / "net.mat"
    fields = dagnn_net(instance("dagnn.Conv", **PADDED), objects=True)
    matio.save_to_mat(str(path), {"best": instance("dagnn.DagNN", **fields)}, version=version)
    check_dagnn(path)


def test_blocks_that_are_objects(tmp_path: Path, version: str) -> None:
    path = tmp_path / "net.mat"
    net = struct(**dagnn_net(instance("dagnn.Conv", **PADDED), objects=True))
    matio.save_to_mat(str(path), {"net": net}, version=version)
    check_dagnn(path)


def test_block_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "net.mat"
    net = struct(**dagnn_net(instance("dagnn.Conv", **PADDED), objects=True))
    matio.save_to_mat(str(path), {"net": net}, version="v7")
    with path.open("r+b") as file:
        file.seek(116)
        file.write(bytes(8))
    with pytest.raises(LayerError, match=r"c: its block is an object of class Conv.*no subsystem"):
        read(path)


def test_objects_beside_the_net_need_no_mat_io(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.mat"
    net = struct(layers=cell(struct(type="relu", name="r")))
    content = {"opts": instance("Options", a=ROW), "state": instance("gpuArray"), "net": net}
    matio.save_to_mat(str(path), content, version=version)
    monkeypatch.setitem(sys.modules, "converters.readers.mat_objects", None)
    assert [layer.name for layer in read(path).layers] == ["r"]
