"""SimpleNN layers, from both containers: what is upgraded, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from converters.checkpoint import Array
from converters.errors import LayerError
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
        (
            {"type": "bnorm", "name": "conv1", "weights": [BIASES, BIASES, single(2, 8)]},
            r"weights/2 has shape \(2, 8\) where mean and sigma per channel belong",
        ),
        ({"type": "spnorm", "name": "conv1"}, "has no param"),
        ({"type": "convt", "name": "conv1", "weights": [FILTERS], "numGroups": 0}, "numGroups is"),
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
        ({"type": "relu", "opts": ["Leak", 0.1]}, "relu", {"leak": 0.1}),
        (
            conv(opts=["CuDNN", "dilate", np.array([[2.0, 3]])]),
            "conv",
            {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (2, 3)},
        ),
        ({"type": "noffset", "param": np.array([[1, 0.5]])}, "normoffset", {"param": (1, 0.5)}),
        ({"type": "spnorm", "param": np.ones((1, 4))}, "spnorm", {"param": (1, 1, 1, 1)}),
        ({"type": "softmax"}, "softmax", {}),
        ({"type": "concat"}, "concat", {"dim": 3}),
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


def test_struct_array_has_every_field_in_every_layer(save: Save) -> None:
    nothing = np.zeros((0, 0))
    layers = (
        conv(stride=nothing, leak=nothing),
        {"type": "relu", "name": "r", "weights": nothing, "stride": nothing, "leak": 0.5},
    )
    found = read(save(net={"layers": layers}))
    assert found.layers[0].options["stride"] == (1, 1)
    assert found.layers[1].options == {"leak": 0.5}


def test_losses_and_the_data_that_they_hold(save: Save) -> None:
    labels = np.arange(1, 9, dtype=float).reshape(1, 1, 1, 8)
    layers = [
        conv("a"),
        {"type": "pdist", "name": "d", "class": labels, "p": 2},
        {"type": "custom", "name": "myLoss", "class": labels, "weights": []},
        {"type": "softmaxloss", "class": labels},
    ]
    found = read(save(net={"layers": layers}))
    assert [layer.name for layer in found.layers] == ["a"]
    assert list(found.tensors) == ["a/weights/0", "a/weights/1"]
    assert found.origin.notes == (
        "left out: d, a pdist",
        "left out: myLoss, a custom",
        "left out: layer4, a softmaxloss",
    )


def test_what_an_unknown_type_holds_beyond_settings_is_told(save: Save) -> None:
    layer = {"type": "SubP", "name": "it", "scale": 2, "kernel": single(3, 3, 2)}
    found = read(save(net={"layers": [layer]}))
    assert found.layers[0].options == {"scale": 2}
    assert found.origin.notes == ("left out: kernel (a 3×3×2 float32 array) of it, a SubP",)


def test_forty_layers_without_names_or_dilate(save: Save) -> None:
    layers: list[dict[str, Any]] = []
    for _ in range(20):
        layers += [{"type": "conv", "weights": [single(3, 3, 2, 2), single(1, 2)], "pad": 1}]
        layers += [{"type": "relu"}]
    found = read(save(net={"layers": layers}))
    assert [layer.name for layer in found.layers] == [f"layer{n}" for n in range(1, 41)]
    assert found.layers[38].inputs == ("layer38",)
    assert found.layers[38].options["dilate"] == (1, 1)


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
