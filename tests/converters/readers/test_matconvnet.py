"""SimpleNN nets, from both containers: layouts, upgrades, and everything that is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import LayerError, ReadError
from converters.readers.matconvnet import read

Save = Callable[..., Path]
RNG = np.random.default_rng(7)


def single(*shape: int) -> Array:
    return RNG.standard_normal(shape, dtype=np.float32)


FILTERS, BIASES = single(3, 3, 3, 8), single(1, 8)


def conv(name: str = "conv1", **fields: Any) -> dict[str, Any]:
    return {"type": "conv", "name": name, "weights": [FILTERS, BIASES]} | fields


def bad(value: float, *, at: int) -> Array:
    tensor = FILTERS.copy()
    tensor.flat[at] = value
    return tensor


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    """The same tensors bit for bit, layers and preprocessing."""
    return (
        one.layers == other.layers
        and one.preprocessing == other.preprocessing
        and one.tensors.keys() == other.tensors.keys()
        and all(
            one.tensors[name].dtype == other.tensors[name].dtype
            and one.tensors[name].shape == other.tensors[name].shape
            and one.tensors[name].tobytes() == other.tensors[name].tobytes()
            for name in one.tensors
        )
    )


# --- what is refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>404 Not Found</html>" * 50, "begins with b'<html>404"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM", "no net inside"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\x0f\0\0\0", "cannot be parsed"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "cannot be parsed"),
    ],
)
def test_not_a_net_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "net.mat"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=reason) as caught:
        read(path)
    assert caught.value.path == str(path)
    assert caught.value.advice


def test_absent_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="does not exist"):
        read(tmp_path / "absent.mat")
    with pytest.raises(ReadError, match="directory"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated(save: Save, kept: float) -> None:
    path = save(net={"layers": [conv(weights=[single(9, 9, 32, 32), single(1, 32)])]})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ReadError, match="cannot be parsed"):
        read(path)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"opts": {"a": 1.0}, "x": 1.0}, r"no net inside.* opts \(struct\), x \(double\)"),
        ({"net": 3.0}, r"no net inside.* net \(double\)"),
        ({"net": {"meta": {"a": 1.0}}}, "no net inside"),
        ({"net": {"layers": []}}, "net has no layers"),
        ({"a": {"layers": [conv()]}, "b": {"layers": [conv()]}}, "2 nets: a, b"),
        ({"net": {"layers": [conv()], "vars": {"name": "x"}}}, "is a DagNN net"),
        ({"net": {"layers": ({"name": "c", "block": {"pad": 1.0}},)}}, "is a DagNN net"),
    ],
)
def test_no_net(save: Save, variables: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReadError, match=reason):
        read(save(**variables))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (conv(type="custom"), "custom layer of unknown class"),
        (conv(type=""), "has no type"),
        (conv(weights=[bad(np.nan, at=5), BIASES]), r"weights/0 .*1 of 216 .*\[0, 0, 0, 5\]"),
        (conv(weights=[FILTERS, np.full((1, 8), np.inf, np.float32)]), "weights/1 .*8 of 8"),
        (conv(weights=[np.zeros((0, 0)), BIASES]), "weights/0 is empty"),
        (conv(weights=[FILTERS, single(2, 4)]), "weights/1 has shape .* where a vector belongs"),
        (conv(weights=[single(2, 2, 2, 2, 2), BIASES]), "weights/0 .* where 4 axes belong"),
        (conv(weights=[FILTERS, BIASES, BIASES]), "has 3 weights where a conv has 2"),
        (conv(weights=[]), "has 0 weights"),
        (conv(weights=["text", BIASES]), "weights/0 is a text where numbers belong"),
        (conv(weights=FILTERS), "weights is a 3×3×3×8 float32 array where a cell array belongs"),
        (conv(pad=np.ones((1, 3))), "pad has 3 numbers where 1 or 4 belong"),
        (conv(pad=0.5), "pad is .0.5.*, where whole numbers from 0 on belong"),
        (conv(stride=0), "stride is .0.*, where whole numbers from 1 on belong"),
        (conv(stride="two"), "stride is a text where numbers belong"),
        ({"type": "pool", "name": "conv1"}, "has no pool"),
        ({"type": "pool", "name": "conv1", "pool": 2, "method": "min"}, "method is min"),
        ({"type": "normalize", "name": "conv1", "param": 5.0}, "param has 1 numbers where 4"),
        ({"type": "bnorm", "name": "conv1", "weights": [BIASES, BIASES]}, "without moments"),
    ],
)
def test_bad_layer(save: Save, layer: dict[str, Any], reason: str) -> None:
    with pytest.raises(LayerError) as caught:
        read(save(net={"layers": [layer]}))
    assert list(caught.value.faults) == ["conv1"]
    assert re.search(reason, caught.value.faults["conv1"]), caught.value.faults


def test_every_bad_layer_in_one_error(save: Save) -> None:
    layers = [
        conv("good"),
        conv("a", pad=np.ones((1, 2))),
        conv("b", weights=[bad(np.inf, at=0), BIASES]),
        {"type": "custom", "name": "vlad:core", "weights": [FILTERS] * 4},
        7.0,
    ]
    with pytest.raises(LayerError) as caught:
        read(save(net={"layers": layers}))
    assert list(caught.value.faults) == ["a", "b", "vlad:core", "layer5"]
    assert "has 4 weights" in caught.value.faults["vlad:core"]
    assert "is a 1×1 float64 array where a struct belongs" in caught.value.faults["layer5"]


def test_duplicate_names(save: Save) -> None:
    with pytest.raises(LayerError) as caught:
        read(save(net={"layers": [conv("a"), conv("b"), conv("a"), conv("input")]}))
    assert caught.value.faults == {
        "input": "is called as the net's own input is",
        "a": "2 layers are called so",
    }


def test_sparse_and_complex_weights(save_v5: Save) -> None:
    layers = [
        conv("sparse", weights=[scipy.sparse.eye(3, format="csc"), BIASES]),
        conv("complex", weights=[FILTERS.astype(np.complex64), BIASES]),
    ]
    with pytest.raises(LayerError) as caught:
        read(save_v5(net={"layers": layers}))
    assert "weights/0 is a sparse matrix" in caught.value.faults["sparse"]
    assert "complex64 array where numbers belong" in caught.value.faults["complex"]


def test_mean_that_is_not_finite(save: Save) -> None:
    mean = np.full((1, 1, 3), np.nan, np.float32)
    meta = {"normalization": {"averageImage": mean}}
    with pytest.raises(ReadError, match="averageImage: 3 of 3 values are NaN"):
        read(save(net={"layers": [conv()], "meta": meta}))


# --- what is read


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"net": {"layers": [conv()], "meta": {}}}, id="net"),
        pytest.param({"opts": {"a": 1.0}, "model": {"layers": [conv()]}}, id="other name"),
        pytest.param({"net": {"layers": [conv()]}, "b": {"layers": [conv()]}}, id="net wins"),
        pytest.param({"layers": [conv()], "meta": {"a": 1.0}, "x": 1.0}, id="top level"),
        pytest.param({"net": {"layers": (conv(),)}}, id="struct array of one"),
        pytest.param({"net": {"layers": conv()}}, id="a struct"),
    ],
)
def test_where_the_net_is(save: Save, variables: dict[str, Any]) -> None:
    path = save(**variables)
    found = read(path)
    assert found.layers == (
        Layer(
            "conv1",
            "conv",
            ("input",),
            ("conv1/weights/0", "conv1/weights/1"),
            {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (1, 1)},
        ),
    )
    np.testing.assert_array_equal(found.tensors["conv1/weights/0"], FILTERS)
    np.testing.assert_array_equal(found.tensors["conv1/weights/1"], BIASES[0])
    assert found.origin.format == "matconvnet"
    assert found.origin.files == (path,)
    assert found.origin.path == path


@pytest.mark.parametrize("many", [list, tuple], ids=["cell array", "struct array"])
def test_chain(save: Save, many: type) -> None:
    layers = [
        {"type": kind, "name": name}
        for kind, name in [("relu", "a"), ("softmaxloss", "b"), ("softmax", ""), ("sigmoid", "")]
    ]
    found = read(save(net={"layers": many(layers)}))
    assert [(layer.name, layer.kind, layer.inputs) for layer in found.layers] == [
        ("a", "relu", ("input",)),
        ("layer3", "softmax", ("a",)),
        ("layer4", "sigmoid", ("layer3",)),
    ]
    assert found.origin.notes == (
        "left out: b, a softmaxloss",
        "named by their place, for want of a name: layer3, layer4",
    )


@pytest.mark.parametrize(
    ("layer", "kind", "options"),
    [
        ({"type": "relu"}, "relu", {"leak": 0}),
        ({"type": "relu", "leak": 0.2}, "relu", {"leak": 0.2}),
        ({"type": "lrn"}, "normalize", {"param": (5, 1, 2e-5, 0.75)}),
        ({"type": "dropout"}, "dropout", {"rate": 0.5}),
        (
            {"type": "pool", "pool": np.array([[3, 2]], np.uint8), "pad": np.eye(2).reshape(1, 4)},
            "pool",
            {"method": "max", "pool": (3, 2), "stride": (1, 1), "pad": (1, 0, 0, 1)},
        ),
        (
            {"type": "pool", "pool": 2, "stride": 2, "method": "avg", "opts": []},
            "pool",
            {"method": "avg", "pool": (2, 2), "stride": (2, 2), "pad": (0, 0, 0, 0)},
        ),
        (
            conv(pad=1, stride=np.array([[2.0, 1.0]]), learningRate=np.ones((1, 2))),
            "conv",
            {"pad": (1, 1, 1, 1), "stride": (2, 1), "dilate": (1, 1)},
        ),
        (
            conv(type="convt", upsample=2, crop=np.array([[0, 1, 0, 1]], np.uint8)),
            "convt",
            {"crop": (0, 1, 0, 1), "upsample": (2, 2), "numGroups": 1},
        ),
        (
            {"type": "bnorm", "weights": [BIASES, BIASES, single(8, 2)]},
            "bnorm",
            {"epsilon": 1e-5},
        ),
        (
            {"type": "mine", "factor": 2, "mode": "up", "grid": np.array([[1.0, 2], [3, 4]])},
            "mine",
            {"factor": 2, "mode": "up", "grid": ((1, 2), (3, 4))},
        ),
    ],
)
def test_options(save: Save, layer: dict[str, Any], kind: str, options: dict[str, Any]) -> None:
    (found,) = read(save(net={"layers": [layer | {"name": "it", "precious": 0}]})).layers
    assert (found.kind, found.options) == (kind, options)


@pytest.mark.parametrize(
    ("name", "count", "kind", "shapes"),
    [
        ("vlad:core", 2, "layerVLAD", [(1, 1, 5, 4), (1, 1, 5, 4)]),
        ("vlad:core", 3, "layerVLADv2", [(1, 1, 5, 4), (4,), (1, 1, 5, 4)]),
        ("postL2", 0, "layerWholeL2Normalize", []),
        ("finalL2", 0, "layerWholeL2Normalize", []),
        ("max:core", 0, "layerTotalMaxPool", []),
        ("avg:core", 0, "layerTotalAvgPool", []),
    ],
)
def test_class_layers_that_became_structs(
    save: Save, name: str, count: int, kind: str, shapes: list[tuple[int, ...]]
) -> None:
    table = {0: [], 2: [single(1, 1, 5, 4)] * 2}
    weights = table.get(count, [single(1, 1, 5, 4), single(1, 4), single(1, 1, 5, 4)])
    layer = {"type": "custom", "name": name, "weights": weights, "K": 4.0, "D": 5.0}
    found = read(save(net={"layers": [layer]}))
    assert found.layers[0].kind == kind
    assert found.layers[0].options == {}
    assert [found.tensors[tensor].shape for tensor in found.layers[0].params] == shapes


def test_old_layout(save: Save) -> None:
    old = conv(filters=FILTERS, biases=BIASES.T.copy())
    del old["weights"]
    normalization = {"averageImage": single(4, 5, 3), "imageSize": np.array([[4.0, 5, 3]])}
    found = read(
        save(
            net={
                "layers": [old],
                "normalization": normalization | {"interpolation": "bicubic", "keepAspect": 1},
                "sessionID": "vd16_offtheshelf",
                "netID": "vd16",
                "epoch": 3,
            }
        )
    )
    np.testing.assert_array_equal(found.tensors["conv1/weights/1"], BIASES[0])
    np.testing.assert_array_equal(found.tensors[MEAN], normalization["averageImage"])
    assert found.preprocessing == {
        "imageSize": (4, 5, 3),
        "interpolation": "bicubic",
        "keepAspect": 1,
    }
    assert found.origin.session == "vd16_offtheshelf"
    assert found.origin.notes == (
        "upgraded: conv1, filters and biases are now weights",
        "upgraded: the net's normalization is now meta.normalization",
    )


@pytest.mark.parametrize(
    ("channels", "image", "shape"),
    [
        (3, (4, 5, 3), (4, 5, 3)),
        (3, (1, 1, 3), (1, 1, 3)),
        (3, (3, 1), (1, 1, 3)),
        (3, (1, 3), (1, 1, 3)),
        (3, (1, 1), (1, 1, 1)),
        (1, (1, 1), (1, 1, 1)),
        (1, (4, 5), (4, 5, 1)),
        (1, (1, 3), (1, 3, 1)),
        (3, (0, 0), None),
    ],
)
def test_mean(
    save: Save, channels: int, image: tuple[int, ...], shape: tuple[int, ...] | None
) -> None:
    mean = single(*image)
    layer = conv(weights=[single(3, 3, channels, 8), BIASES])
    meta = {"normalization": {"averageImage": mean}}
    found = read(save(net={"layers": [layer], "meta": meta})).tensors.get(MEAN)
    assert (None if found is None else found.shape) == shape
    if found is not None:
        np.testing.assert_array_equal(found.ravel(), mean.ravel())


@pytest.mark.parametrize(
    ("stored", "shape"),
    [((3, 3, 2, 1), (3, 3, 2, 1)), ((3, 3), (3, 3, 1, 1)), ((1, 1, 6), (1, 1, 6, 1))],
)
def test_trailing_axes_that_matlab_drops(
    save: Save, stored: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    filters = single(*stored)
    found = read(save(net={"layers": [conv(weights=[filters, single(1, 1)])]})).tensors
    np.testing.assert_array_equal(found["conv1/weights/0"], filters.reshape(shape))
    assert found["conv1/weights/1"].shape == (1,)


def test_missing_bias(save: Save) -> None:
    found = read(save(net={"layers": [conv(weights=[FILTERS, np.zeros((0, 0))])]}))
    assert found.layers[0].params == ("conv1/weights/0",)


def test_types(save: Save) -> None:
    weights = [FILTERS.astype(np.float64), np.arange(8, dtype=np.uint8).reshape(1, 8)]
    found = read(save(net={"layers": [conv(weights=weights)]})).tensors
    assert found["conv1/weights/0"].dtype == np.float64
    # MATLAB stores whole numbers as bytes whatever their type is.
    assert found["conv1/weights/1"].dtype == np.float32
    assert found["conv1/weights/1"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_tensors_are_views_in_matlabs_order(save: Save) -> None:
    for tensor in read(save(net={"layers": [conv()]})).tensors.values():
        assert tensor.flags.f_contiguous
        assert not tensor.flags.owndata


def test_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "net.mat"

    def element(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(4) + len(data).to_bytes(4) + data + b"\0" * (-len(data) % 8)

    def matrix(kind: int, name: bytes, *parts: bytes) -> bytes:
        flags = element(6, kind.to_bytes(4) + bytes(4))
        head = flags + element(5, b"\0\0\0\1" * 2) + element(1, name)
        return element(14, head + b"".join(parts))

    def struct(name: bytes, fields: dict[bytes, bytes]) -> bytes:
        names = b"".join(field.ljust(32, b"\0") for field in fields)
        size = element(5, (32).to_bytes(4))
        return matrix(2, name, size, element(1, names), *fields.values())

    def text(value: bytes) -> bytes:
        flags = element(6, (4).to_bytes(4) + bytes(4))
        shape = element(5, (1).to_bytes(4) + len(value).to_bytes(4))
        return element(14, flags + shape + element(1, b"") + element(16, value))

    bias = matrix(7, b"", element(7, np.array([1.5], ">f4").tobytes()))
    fields = {b"type": text(b"conv"), b"filters": bias, b"biases": bias}
    net = struct(b"net", {b"layers": struct(b"", fields)})
    path.write_bytes(b"MATLAB 5.0 MAT-file, big-endian".ljust(124) + b"\x01\x00MI" + net)
    found = read(path).tensors
    assert found["layer1/weights/1"].dtype == np.dtype("=f4")
    assert found["layer1/weights/1"].tolist() == [1.5]


# --- real files


CLASS_FILES = ["fw2_v7", "fw2_v73", "fw3_v7", "fw4_v7", "fw4_v73"]


@pytest.mark.parametrize("name", CLASS_FILES)
def test_class_objects_equal_structs(shared_data: Path, name: str) -> None:
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    expected = read(shared_data / "fixtures/vgg_struct.mat")
    assert len(expected.layers) == 12
    assert equal(read(shared_data / f"fixtures/vgg_mcosdef_{name}.mat"), expected)


@pytest.mark.parametrize("kind", ["layerTotalMaxPool", "layerTotalAvgPool"])
def test_total_pooling(shared_data: Path, kind: str) -> None:
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    found = read(shared_data / f"fixtures/{kind}_fw3_v7.mat").layers[-2:]
    assert [(layer.name, layer.kind) for layer in found] == [
        (f"{kind[10:13].lower()}:core", kind),
        ("postL2", "layerWholeL2Normalize"),
    ]


def test_groups_and_uneven_pads(shared_data: Path) -> None:
    found = read(shared_data / "fixtures/caffe_struct.mat")
    layers = {layer.name: layer for layer in found.layers}
    assert found.tensors["conv2/weights/0"].shape == (5, 5, 6, 16)
    assert found.tensors["WPCA/weights/1"].shape == (10,)
    assert layers["pool1"].options["pad"] == (0, 1, 0, 1)
    assert layers["conv1"].options["stride"] == (4, 4)
    assert found.origin.session == "caffe_tokyoTM_conv5_vlad_preL2_intra_white"


def test_dncnn_is_one_net_before_and_after_merging(shared_data: Path) -> None:
    merged = read(shared_data / "matconvnet/DnCNN_sigma25.mat")
    before = read(shared_data / "matconvnet/DnCNN_sigma25_Bnorm.mat")
    convs = [layer.name for layer in merged.layers if layer.kind == "conv"]
    assert convs == [layer.name for layer in before.layers if layer.kind == "conv"]
    assert before.tensors["layer4/weights/2"].shape == (64, 2)
    assert before.tensors["layer48/weights/0"].shape == (3, 3, 64, 1)
    assert before.origin.notes == ("left out: layer49, a loss",)


def test_dcfnet_holds_its_authors_weights(shared_data: Path) -> None:
    found = read(shared_data / "matconvnet/DCFNet.mat")
    recorded = scipy.io.loadmat(shared_data / "matconvnet/DCFNet_recorded_outputs.mat")
    for name in ("conv1", "conv2"):
        np.testing.assert_array_equal(found.tensors[f"{name}/weights/0"], recorded[f"{name}_w"])
        np.testing.assert_array_equal(
            found.tensors[f"{name}/weights/1"], recorded[f"{name}_b"].ravel()
        )
    assert found.layers[-1].kind == "normalize"
    assert found.tensors[MEAN].ravel().tolist() == pytest.approx([123, 117, 104], abs=0.5)


def test_dagnn_is_refused_by_name(shared_data: Path) -> None:
    with pytest.raises(ReadError, match=r"is a DagNN net \(28 layers\)"):
        read(shared_data / "matconvnet/LapSRN_x2.mat")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("empty.mat", ReadError),
        ("text.mat", ReadError),
        ("hdr_only.mat", ReadError),
        ("ok.mat", ReadError),  # a good file, with no net in it
        ("struct_dupfields.mat", ReadError),
        ("h5_link.mat", ReadError),
        ("flip001_vgg_struct.mat", ReadError),
        ("flip004_vgg_mcos_saveobj_v73.mat", ReadError),
        ("trunc0.9_vgg_mcos_saveobj_v73.mat", ReadError),
        ("trunc0.999_vgg_struct.mat", ReadError),
        ("trunc0.999_vgg_mcos_saveobj_v7.mat", LayerError),
        ("flip006_vgg_mcos_saveobj_v73.mat", LayerError),
    ],
)
def test_hostile(shared_data: Path, name: str, error: type[ReadError | LayerError]) -> None:
    if error is LayerError:
        pytest.importorskip("matio", reason="mat-io decodes class objects")
    with pytest.raises(error):
        read(shared_data / "hostile" / name)
