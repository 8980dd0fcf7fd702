"""Seeded nets: the same each time, with activations that live."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest

from converters.mini import SPEC, mini, seeded
from converters.recognise import spec_from
from netvlad_keras.spec import NetVLADSpec
from verify import oracle


def test_the_same_net_each_time_and_another_for_another_seed() -> None:
    first, again, other = mini(), mini(), mini(1)
    assert first.parameters == 21_135
    assert len(first.layers) == 35
    assert first.origin.session == "mini"
    assert all(np.array_equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    assert not np.array_equal(first.tensors["WPCA/weights/0"], other.tensors["WPCA/weights/0"])
    digest = hashlib.sha256(b"".join(t.tobytes("F") for t in first.tensors.values())).hexdigest()
    assert digest == "efe0f26c13313ddc29660d669e881615127a1068814a7bdb9f2bb07bd796448b"


@pytest.mark.parametrize(
    "name",
    [
        "vd16_pitts30k_conv5_3_vlad_preL2_intra",
        "caffe_pitts30k_conv5_vladv2_preL2",
        "caffe_pitts30k_conv5_max",
        "vd16_pitts30k_conv5_3_avg",
    ],
)
def test_any_spec_is_made_and_recognised(name: str) -> None:
    spec = NetVLADSpec.from_name(name)
    net = seeded(spec, 3)
    assert replace(spec_from(net), mean=spec.mean) == spec
    assert all(tensor.dtype == np.float32 for tensor in net.tensors.values())
    kernels = [tensor for tensor in net.tensors.values() if tensor.ndim == 4]
    assert all(k.flags.f_contiguous for k in kernels if k.shape[:2] != (1, 1))


def test_clusters_and_whitening_of_a_real_size() -> None:
    spec = replace(NetVLADSpec(), whitening=64)
    tensors = seeded(spec, 5).tensors
    assignment = tensors["vlad:core/weights/0"][0, 0].astype(np.float64)
    norms = np.linalg.norm(assignment, axis=0)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-6)  # alpha times unit directions
    features = np.random.default_rng(9).standard_normal((4000, 512))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    ordered = np.sort(features @ assignment, axis=1)
    assert math.exp(np.mean(ordered[:, -1] - ordered[:, -2])) == pytest.approx(10, rel=0.1)
    kernel = tensors["WPCA/weights/0"][0, 0].astype(np.float64)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(64), atol=0.05)


def test_activations_neither_vanish_nor_blow_up() -> None:
    blocks = np.random.default_rng(1).integers(0, 256, (8, 10, 3))
    image = np.kron(blocks, np.ones((8, 8, 1)))
    found = oracle.run(mini(), image)
    spreads = {layer.name: np.std(found[layer.name]) for layer in mini().layers}
    assert all(0.05 < spread < 5 for name, spread in spreads.items() if "conv" in name), spreads
    assert found["finalL2"].shape == (1, SPEC.dimension)
    assert np.linalg.norm(found["finalL2"]) == pytest.approx(1)
