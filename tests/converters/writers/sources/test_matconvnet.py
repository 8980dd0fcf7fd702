"""The .mat that is written: its layout, its bytes, and what the reader makes of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from converters.checkpoint import Checkpoint, Layer, Origin
from converters.errors import LayerError
from converters.mini import SPEC, mini, seeded
from converters.readers import matconvnet as reader
from converters.writers.sources import matconvnet
from netvlad_keras.spec import NetVLADSpec

PLAIN = [[0.0] * 4]


def _load(path: Path) -> Any:
    return scipy.io.loadmat(path, struct_as_record=False)["net"][0, 0]


def _struct(value: Any) -> dict[str, Any]:
    """A loaded struct as plain data; arrays of numbers as (type, shape)."""
    return {name: _plain(getattr(value, name)) for name in value._fieldnames}


def _plain(value: Any) -> Any:
    if value.dtype == object:
        return [_plain(item) for item in value.ravel()]
    if value.dtype.kind == "U":
        return str(value[0]) if value.size else ""
    return value.tolist() if value.size <= 4 else (str(value.dtype), value.shape)


# --- what is refused ------------------------------------------------------------------------


def _branching(net: Checkpoint) -> Checkpoint:
    more = Layer("sum", "sum", ("finalL2", "finalL2"))
    return replace(net, layers=(*net.layers[-2:], more))


def _half(net: Checkpoint) -> Checkpoint:
    tensors = {name: tensor.astype(np.float16) for name, tensor in net.tensors.items()}
    return replace(net, layers=net.layers[:2], tensors=tensors)


@pytest.mark.parametrize(
    ("net", "faults"),
    [
        (
            _branching(mini()),
            {"finalL2": "there is no way to write a layerWholeL2Normalize outside a chain"},
        ),
        (
            _half(mini()),
            {"conv1_1": "conv1_1/weights/0 has half precision, which MATLAB lacks"},
        ),
        (replace(mini(), layers=()), {"(net)": "holds weights alone, no layers"}),
    ],
    ids=["class in a DagNN", "half", "weights alone"],
)
def test_what_matlab_cannot_say_is_refused_and_nothing_is_written(
    tmp_path: Path, net: Checkpoint, faults: dict[str, str]
) -> None:
    with pytest.raises(LayerError) as caught:
        matconvnet.write(net, tmp_path / "net.mat")
    assert caught.value.faults == faults
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk that is full."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "net.mat"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            matconvnet.write(mini(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- the layout -----------------------------------------------------------------------------


#: Some layers of the small net, as `_struct` gives them.
LAYERS: dict[str, dict[str, Any]] = {
    "conv1_1": {
        "type": "conv",
        "name": "conv1_1",
        "weights": [("float32", (3, 3, 3, 8)), ("float32", (1, 8))],
        "precious": [[0]],
        "opts": [],
        "pad": [[1.0] * 4],
        "stride": [[1.0, 1.0]],
        "dilate": [[1.0, 1.0]],
    },
    "relu1_1": {
        "type": "relu",
        "name": "relu1_1",
        "weights": [],
        "precious": [[0]],
        "leak": [[0.0]],
    },
    "pool1": {
        "type": "pool",
        "name": "pool1",
        "weights": [],
        "precious": [[0]],
        "opts": [],
        "method": "max",
        "pool": [[2.0, 2.0]],
        "stride": [[2.0, 2.0]],
        "pad": PLAIN,
    },
    "preL2": {
        "type": "normalize",
        "name": "preL2",
        "weights": [],
        "precious": [[0]],
        "param": [[32.0, 1e-12, 1.0, 0.5]],
    },
    "postL2": {"type": "custom", "name": "postL2", "weights": [], "precious": [[0]]},
}


def test_layers_are_structs_in_the_layout_of_vl_simplenn_tidy(tmp_path: Path) -> None:
    path = tmp_path / "net.mat"
    matconvnet.write(mini(), path)
    net = _load(path)
    layers = {str(cell[0, 0].name[0]): _struct(cell[0, 0]) for cell in net.layers.ravel()}
    assert list(layers) == [layer.name for layer in mini().layers]
    assert net.layers.shape == (1, 35)
    assert {name: layers[name] for name in LAYERS} == LAYERS
    assert layers["vlad:core"] == {
        "type": "custom",
        "name": "vlad:core",
        "weights": [("float32", (1, 1, 16, 8)), ("float32", (1, 1, 16, 8))],
        "precious": [[0]],
        "K": [[8.0]],
        "D": [[16.0]],
        "vladDim": [[128.0]],
    }
    assert layers["WPCA"]["weights"] == [("float32", (1, 1, 128, 16)), ("float32", (16, 1))]


def test_the_meta_data(tmp_path: Path) -> None:
    path = tmp_path / "net.mat"
    matconvnet.write(mini(), path)
    meta = _load(path).meta[0, 0]
    normalization = _struct(meta.normalization[0, 0])
    assert normalization == {
        "imageSize": [[224.0, 224.0, 3.0]],
        "interpolation": "bicubic",
        "border": [[32.0, 32.0]],
        "averageImage": np.array([[[123.68, 116.779, 103.939]]], np.float32).tolist(),
    }
    assert [str(meta.netID[0]), str(meta.sessionID[0])] == ["mini", "mini"]


def test_every_field_of_a_file_that_matlab_layed_out(shared_data: Path, tmp_path: Path) -> None:
    """The reference file's structs come back with all that says what a layer computes."""
    reference = shared_data / "fixtures" / "vgg_struct.mat"
    matconvnet.write(reader.read(reference), tmp_path / "net.mat")
    for theirs, ours in zip(
        _load(reference).layers.ravel(), _load(tmp_path / "net.mat").layers.ravel(), strict=True
    ):
        wanted, found = _struct(theirs[0, 0]), _struct(ours[0, 0])
        for field in ("momentum", "learningRate", "weightDecay"):  # of training alone
            wanted.pop(field, None)
        for field in ("pad", "stride", "dilate"):  # in full, where theirs may be one number
            if field in wanted:
                assert set(wanted.pop(field)[0]) == set(found.pop(field)[0])
        assert found == {"weights": [], **wanted}


# --- the bytes ------------------------------------------------------------------------------


def test_the_same_bytes_each_time_and_a_header_without_a_date(tmp_path: Path) -> None:
    digests = set()
    for name in ("one.mat", "two.mat"):
        matconvnet.write(mini(), tmp_path / name)
        content = (tmp_path / name).read_bytes()
        digests.add(hashlib.sha256(content).hexdigest())
    assert len(digests) == 1
    assert content[:116].rstrip() == (
        b"MATLAB 5.0 MAT-file, a MatConvNet net written by netvlad-keras"
    )
    assert content[124:128] == b"\x00\x01IM"


def _same(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.layers == expected.layers
    assert found.origin.session == expected.origin.session
    assert dict(found.preprocessing) == dict(expected.preprocessing)
    assert list(found.tensors) == list(expected.tensors)
    for name, tensor in expected.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found.tensors[name], tensor, err_msg=name)


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        replace(SPEC, whitening=0),
        replace(SPEC, pooling="vladv2", prel2=False, name="v2"),
        replace(SPEC, pooling="max", clusters=0, intranorm=False, name="max"),
        replace(SPEC, pooling="avg", clusters=0, intranorm=False, whitening=0, name=""),
        NetVLADSpec.from_name("caffe_pitts30k_conv5_vlad_preL2_intra"),
    ],
    ids=["white", "plain", "vladv2", "max", "avg", "caffe"],
)
def test_the_reader_gives_back_what_was_written(tmp_path: Path, spec: NetVLADSpec) -> None:
    net = seeded(spec, 11)
    matconvnet.write(net, tmp_path / "net.mat")
    _same(reader.read(tmp_path / "net.mat"), net)


@pytest.mark.parametrize("name", ["vgg_struct.mat", "caffe_struct.mat"])
def test_reference_nets_survive_the_way_there_and_back(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    net = reader.read(shared_data / "fixtures" / name)
    matconvnet.write(net, tmp_path / "net.mat")
    _same(reader.read(tmp_path / "net.mat"), net)


# --- nets of every kind ---------------------------------------------------------------------

PAD = (1, 0, 2, 1)
#: name -> (kind, settings, shapes of the weights)
CHAIN: dict[str, tuple[str, dict[str, Any], tuple[tuple[int, ...], ...]]] = {
    "c": ("conv", {"pad": PAD, "stride": (2, 1), "dilate": (1, 2)}, ((3, 2, 4, 6), (6,))),
    "unbiased": ("conv", {"pad": PAD, "stride": (1, 1), "dilate": (1, 1)}, ((1, 1, 3, 1),)),
    "up": ("convt", {"crop": PAD, "upsample": (2, 3), "numGroups": 2}, ((4, 4, 2, 6), (4,))),
    "bn": ("bnorm", {"epsilon": 1e-4}, ((6,), (6,), (6, 2))),
    "pool": ("pool", {"method": "avg", "pool": (3, 2), "stride": (2, 2), "pad": PAD}, ()),
    "relu": ("relu", {"leak": 0.2}, ()),
    "lrn": ("normalize", {"param": (5, 1, 2e-5, 0.75)}, ()),
    "sn": ("spnorm", {"param": (2, 2, 10, 0.75)}, ()),
    "no": ("normoffset", {"param": (1, 0.5)}, ()),
    "drop": ("dropout", {"rate": 0.25}, ()),
    "sigma": ("sigmoid", {}, ()),
    "soft": ("softmax", {}, ()),
    "own": ("SubP", {"scale": 2, "a_name_longer_than_thirty_one_letters": 1}, ()),
}
GRAPH: dict[str, tuple[str, dict[str, Any], tuple[tuple[int, ...], ...]]] = {
    **{name: row for name, row in CHAIN.items() if name != "own"},
    "cat": ("concat", {"dim": 3}, ()),
    "plus": ("sum", {}, ()),
    "times": ("product", {}, ()),
    "scale": ("scale", {"hasBias": True}, ((1, 1, 6), (1, 1, 6))),
    "crop": ("crop", {"crop": (1, 2)}, ()),
    "flat": ("flatten", {"axis": 3}, ()),
    "bilinear": ("bilinearsampler", {}, ()),
    "grid": ("affinegrid", {"Ho": 4, "Wo": 5}, ()),
    "own": ("SubP", {"scale": 2}, ()),
}


def _built(graph: bool) -> Checkpoint:
    """Every kind, one behind the other; in a graph two of the sums' inputs are the net's."""
    rng = np.random.default_rng(1)
    layers: list[Layer] = []
    tensors: dict[str, Any] = {}
    before: tuple[str, ...] = ("data" if graph else "input",)
    for name, (kind, options, shapes) in (GRAPH if graph else CHAIN).items():
        stem = f"{name}_" if graph else f"{name}/weights/"
        own = {f"{stem}{n}": rng.standard_normal(s, np.float32) for n, s in enumerate(shapes)}
        tensors |= own
        inputs = (*before, "other") if kind in ("concat", "sum") else before
        output = f"x_{name}" if graph else ""
        layers.append(Layer(name, kind, inputs, tuple(own), options, output))
        before = (name,)
    origin = Origin(Path("net.mat"), "matconvnet")
    return Checkpoint(tensors, tuple(layers), {"imageSize": (4, 5, 4)}, origin)


@pytest.mark.parametrize("graph", [False, True], ids=["SimpleNN", "DagNN"])
def test_every_kind_of_layer_comes_back(tmp_path: Path, graph: bool) -> None:
    net = _built(graph)
    matconvnet.write(net, tmp_path / "net.mat")
    found = reader.read(tmp_path / "net.mat")
    _same(found, net)
    assert found.origin.notes == ()


def test_a_chain_has_the_types_that_vl_simplenn_runs(tmp_path: Path) -> None:
    matconvnet.write(_built(graph=False), tmp_path / "net.mat")
    layers = {str(cell[0, 0].name[0]): cell[0, 0] for cell in _load(tmp_path / "net.mat").layers[0]}
    assert str(layers["no"].type[0]) == "noffset"
    assert [cell.shape for cell in layers["unbiased"].weights[0]] == [(1, 1, 3, 1), (0, 0)]


def test_a_dagnn_has_the_fields_and_classes_that_loadobj_takes(tmp_path: Path) -> None:
    matconvnet.write(_built(graph=True), tmp_path / "net.mat")
    net = _load(tmp_path / "net.mat")
    assert net._fieldnames == ["layers", "vars", "params", "meta"]
    layers = {str(layer.name[0]): layer for layer in net.layers[0]}
    assert [str(layers[name].type[0]) for name in ("c", "bn", "lrn", "own")] == [
        "dagnn.Conv", "dagnn.BatchNorm", "dagnn.LRN", "dagnn.SubP"
    ]  # fmt: skip
    assert str(layers["pool"].block[0, 0].method[0]) == "avg"
    assert layers["pool"].block[0, 0].poolSize.tolist() == [[3, 2]]
    assert layers["unbiased"].block[0, 0].hasBias.tolist() == [[0]]
    assert [str(name[0]) for name in layers["plus"].inputs[0]] == ["x_cat", "other"]
    assert {"data", "other", "x_own"} <= {str(each.name[0]) for each in net.vars[0]}


@pytest.mark.parametrize("name", ["LapSRN_x2", "DnCNN_sigma25", "DCFNet"])
def test_real_nets_survive_the_way_there_and_back(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    net = reader.read(shared_data / "matconvnet" / f"{name}.mat")
    matconvnet.write(net, tmp_path / "net.mat")
    _same(reader.read(tmp_path / "net.mat"), net)
