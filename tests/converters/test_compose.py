"""The layers and tensors that a spec has in MatConvNet's vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from converters.checkpoint import MEAN, Array
from converters.compose import clusters, compose, shapes
from converters.errors import MappingError
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import MINI

SPEC = NetVLADSpec(trunk=MINI, clusters=4, whitening=10, mean=(1, 2, 3), name="small")
PLAIN = (0, 0, 0, 0)


def _zeros(spec: NetVLADSpec) -> dict[str, Array]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes(spec).items()}


def test_every_misfit_in_one_error() -> None:
    tensors = _zeros(SPEC)
    tensors["conv1_2/weights/0"] = np.zeros((3, 3, 8, 9), np.float32)
    del tensors["WPCA/weights/1"]
    tensors["fc6/weights/0"] = np.zeros(3, np.float32)
    with pytest.raises(MappingError) as caught:
        compose(SPEC, tensors)
    assert caught.value.missing == ("WPCA/weights/1",)
    assert caught.value.unexpected == ("fc6/weights/0",)
    assert caught.value.misfits == {
        "conv1_2/weights/0": "has shape (3, 3, 8, 9), the layer takes (3, 3, 8, 8)"
    }


def test_the_35_layers_of_the_published_net() -> None:
    net = compose(SPEC, _zeros(SPEC))
    assert len(net.layers) == 35
    assert [layer.inputs for layer in net.layers] == [
        ("input",),
        *((layer.name,) for layer in net.layers[:-1]),
    ]
    layers = {layer.name: layer for layer in net.layers}
    assert {name: (layers[name].kind, dict(layers[name].options)) for name in (
        "conv1_1", "pool1", "relu1_2", "preL2", "vlad:core", "vlad:intranorm", "postL2", "WPCA"
    )} == {
        "conv1_1": ("conv", {"pad": (1, 1, 1, 1), "stride": (1, 1), "dilate": (1, 1)}),
        "pool1": ("pool", {"method": "max", "pool": (2, 2), "stride": (2, 2), "pad": PLAIN}),
        "relu1_2": ("relu", {"leak": 0.0}),
        "preL2": ("normalize", {"param": (32, 1e-12, 1, 0.5)}),
        "vlad:core": ("layerVLAD", {}),
        "vlad:intranorm": ("normalize", {"param": (32, 1e-12, 1, 0.5)}),
        "postL2": ("layerWholeL2Normalize", {}),
        "WPCA": ("conv", {"pad": PLAIN, "stride": (1, 1), "dilate": (1, 1)}),
    }  # fmt: skip
    assert layers["WPCA"].params == ("WPCA/weights/0", "WPCA/weights/1")
    assert net.tensors["WPCA/weights/0"].shape == (1, 1, 64, 10)
    assert net.tensors[MEAN].tolist() == [[[1, 2, 3]]]
    assert net.origin.session == "small"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "vd16_pitts30k_conv5_3_vlad_preL2_intra_white",
            {
                "conv5_3/weights/0": (3, 3, 512, 512),
                "vlad:core/weights/0": (1, 1, 512, 64),
                "vlad:core/weights/1": (1, 1, 512, 64),
                "WPCA/weights/0": (1, 1, 32768, 4096),
                "WPCA/weights/1": (4096,),
            },
        ),
        (
            "caffe_tokyoTM_conv5_vladv2_preL2",
            {
                "conv1/weights/0": (11, 11, 3, 96),
                "conv2/weights/0": (5, 5, 48, 256),
                "conv5/weights/0": (3, 3, 192, 256),
                "vlad:core/weights/0": (1, 1, 256, 64),
                "vlad:core/weights/1": (64,),
                "vlad:core/weights/2": (1, 1, 256, 64),
                "WPCA/weights/0": None,
            },
        ),
        (
            "vd16_pitts30k_conv5_3_max_white",
            {"vlad:core/weights/0": None, "WPCA/weights/0": (1, 1, 512, 4096)},
        ),
    ],
)
def test_shapes(name: str, expected: dict[str, tuple[int, ...] | None]) -> None:
    found = shapes(NetVLADSpec.from_name(name))
    assert {tensor: found.get(tensor) for tensor in expected} == expected


def test_lrn_of_the_caffe_trunk() -> None:
    spec = NetVLADSpec.from_name("caffe_offtheshelf_conv5_avg")
    layers = {layer.name: layer for layer in compose(spec, _zeros(spec)).layers}
    assert dict(layers["norm1"].options) == {"param": (5, 1, 2e-5, 0.75)}
    assert layers["pool1"].options["pad"] == (0, 1, 0, 1)
    assert layers["conv1"].options["stride"] == (4, 4)
    assert layers["avg:core"].kind == "layerTotalAvgPool"


@pytest.mark.parametrize("pooling", ["vlad", "vladv2"])
def test_clusters_assign_as_the_paper_says(pooling: str) -> None:
    """By cosine for layerVLAD, by squared distance for layerVLADv2 (eq. 3), alpha times."""
    rng = np.random.default_rng(0)
    centers, features = rng.standard_normal((6, 4)), rng.standard_normal((5, 6))
    found = clusters(pooling, centers, 7.0)
    assert all(tensor.dtype == np.float32 for tensor in found.values())
    *assigning, minus = found.values()
    logits = features @ assigning[0][0, 0] + (assigning[1] if len(assigning) == 2 else 0)
    expected = 7.0 * features @ (centers / np.linalg.norm(centers, axis=0))
    if pooling == "vladv2":
        expected = -7.0 * np.square(features[:, :, None] - centers).sum(axis=1)
        logits = logits - logits.max(axis=1, keepdims=True)
        expected = expected - expected.max(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(minus[0, 0], -centers.astype(np.float32))
