"""The safetensors that are written: the modules' own names, shapes, order and signs."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import Checkpoint
from converters.errors import LayerError
from converters.mini import SPEC, mini, seeded
from converters.writers.sources import hloc_safetensors, pytorch_netvlad_safetensors
from netvlad_keras.spec import NetVLADSpec
from verify import oracle

Array = NDArray[Any]
V2 = replace(SPEC, pooling="vladv2", name="v2")
PLAIN = replace(SPEC, whitening=0, name="plain")
MAX = replace(SPEC, pooling="max", clusters=0, prel2=False, intranorm=False, name="max")
AVG = replace(MAX, pooling="avg", whitening=0, name="avg")
WRITERS = {"hloc": hloc_safetensors, "pytorch-netvlad": pytorch_netvlad_safetensors}


def load(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The format by hand: the writer has no library to lean on, nor has its test."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    metadata: dict[str, str] = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        assert entry["dtype"] == "F32"
        values = np.frombuffer(content[8 + length :][start:end], "<f4")
        tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata


# --- what is refused ------------------------------------------------------------------------

_CAFFE = NetVLADSpec.from_name("caffe_pitts30k_conv5_vlad_preL2_intra")


@pytest.mark.parametrize(
    ("writer", "spec", "layer", "reason"),
    [
        ("hloc", _CAFFE, "norm1", "hloc's NetVLAD lacks it"),
        ("hloc", MAX, "max:core", "hloc's NetVLAD lacks it"),
        ("hloc", V2, "vlad:core", "is a layerVLADv2, hloc's NetVLAD has a layerVLAD"),
        ("hloc", replace(SPEC, prel2=False), "preL2", "this net lacks it"),
        ("pytorch-netvlad", _CAFFE, "norm1", "pytorch-NetVlad's model lacks it"),
        (
            "pytorch-netvlad",
            replace(SPEC, intranorm=False),
            "vlad:intranorm",
            "this net lacks it",
        ),
        ("pytorch-netvlad", replace(MAX, prel2=True), "preL2", "pytorch-NetVlad's model has none"),
        ("pytorch-netvlad", replace(AVG, whitening=4), "WPCA", "pytorch-NetVlad's model has none"),
    ],
)
def test_nets_that_the_modules_are_not(
    tmp_path: Path, writer: str, spec: NetVLADSpec, layer: str, reason: str
) -> None:
    with pytest.raises(LayerError) as caught:
        WRITERS[writer].write(seeded(spec, 1), tmp_path / "net.safetensors")
    assert caught.value.faults[layer].startswith(reason)
    assert list(tmp_path.iterdir()) == []


# --- names and shapes -----------------------------------------------------------------------

_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_WIDTHS = (3, 8, 8, 8, 8, 12, 12, 12, 16, 16, 16, 16, 16, 16)


def _trunk(module: str) -> dict[str, tuple[int, ...]]:
    """torchvision's vgg16().features[:-2], with the small net's widths."""
    shapes: dict[str, tuple[int, ...]] = {}
    for place, before, width in zip(_PLACES, _WIDTHS, _WIDTHS[1:], strict=False):
        shapes |= {f"{module}.{place}.weight": (width, before, 3, 3)}
        shapes |= {f"{module}.{place}.bias": (width,)}
    return shapes


# cvg/Hierarchical-Localization 6f40f873, hloc/extractors/netvlad.py: Conv1d(D, K, 1, bias=False),
# centers [D, K], Linear(D·K, P).
_HLOC = {"netvlad.score_proj.weight": (8, 16, 1), "netvlad.centers": (16, 8)}
_HLOC_WHITE = {"whiten.weight": (16, 128), "whiten.bias": (16,)}
# Nanne/pytorch-NetVlad 881a5f52, netvlad.py: Conv2d(D, K, 1), centroids [K, D].
# QVPR/Patch-NetVLAD 1e4bdb34, models_generic.py: WPCA = Sequential(Conv2d(K·D, P, 1), …).
_POOL = {"pool.conv.weight": (8, 16, 1, 1), "pool.centroids": (8, 16)}
_WPCA = {"WPCA.0.weight": (16, 128, 1, 1), "WPCA.0.bias": (16,)}


@pytest.mark.parametrize(
    ("writer", "spec", "expected"),
    [
        ("hloc", SPEC, _trunk("backbone") | _HLOC | _HLOC_WHITE),
        ("hloc", PLAIN, _trunk("backbone") | _HLOC),
        ("pytorch-netvlad", SPEC, _trunk("encoder") | _POOL | _WPCA),
        ("pytorch-netvlad", PLAIN, _trunk("encoder") | _POOL),
        ("pytorch-netvlad", V2, _trunk("encoder") | _POOL | {"pool.conv.bias": (8,)} | _WPCA),
        (
            "pytorch-netvlad",
            MAX,
            _trunk("encoder") | {"WPCA.0.weight": (16, 16, 1, 1), "WPCA.0.bias": (16,)},
        ),
        ("pytorch-netvlad", AVG, _trunk("encoder")),
    ],
)
def test_the_parameters_are_the_modules_own(
    tmp_path: Path, writer: str, spec: NetVLADSpec, expected: dict[str, tuple[int, ...]]
) -> None:
    net = seeded(spec, 2)
    WRITERS[writer].write(net, tmp_path / "net.safetensors")
    tensors, metadata = load(tmp_path / "net.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == expected
    first = "backbone.0.weight" if writer == "hloc" else "encoder.0.weight"
    theirs, ours = tensors[first], net.tensors["conv1_1/weights/0"]
    assert theirs[5, 2, 0, 1] == ours[0, 1, 2, 5]
    assert metadata["pooling"] == spec.pooling
    np.testing.assert_array_equal(json.loads(metadata["mean"]), np.asarray(spec.mean, np.float32))


def test_the_scaling_stands_in_the_metadata(tmp_path: Path) -> None:
    """(x/255 - mean)/std is x - 255·mean: nothing is folded into conv1_1."""
    pytorch_netvlad_safetensors.write(mini(), tmp_path / "net.safetensors")
    normalize = json.loads(load(tmp_path / "net.safetensors")[1]["normalize"])
    np.testing.assert_allclose(normalize["mean"], [0.48502, 0.45796, 0.40760], atol=1e-5)
    assert normalize["std"] == [1 / 255] * 3


# --- order and signs: the heads of the modules, in NumPy ------------------------------------


def _unit(values: Array, axis: int) -> Array:
    norms: Array = np.sqrt(np.square(values).sum(axis, keepdims=True))
    return np.divide(values, np.maximum(norms, 1e-12))


def _soft(scores: Array) -> Array:
    powers: Array = np.exp(scores - scores.max(0))
    total: Array = powers.sum(0)
    return np.divide(powers, total)


def _hloc_head(features: Array, weights: dict[str, Array]) -> Array:
    """`forward` of hloc's NetVLADLayer, then `whiten`; features D×positions."""
    x = _unit(features, 0)
    scores = _soft(weights["netvlad.score_proj.weight"][:, :, 0] @ x)
    differences = x[:, None] - weights["netvlad.centers"][:, :, None]
    vector = _unit((scores[None] * differences).sum(-1), 0).reshape(-1)  # d·K + k
    vector = _unit(vector, 0)
    return _unit(weights["whiten.weight"] @ vector + weights["whiten.bias"], 0)


def _pytorch_head(features: Array, weights: dict[str, Array]) -> Array:
    """`forward` of pytorch-NetVlad's NetVLAD, then Patch-NetVLAD's WPCA; features D×positions."""
    x = _unit(features, 0)
    bias = weights.get("pool.conv.bias", np.zeros(1))
    scores = _soft(weights["pool.conv.weight"][:, :, 0, 0] @ x + bias[:, None])
    differences = x[None] - weights["pool.centroids"][:, :, None]
    vector = _unit((scores[:, None] * differences).sum(-1), 1).reshape(-1)  # k·D + d
    vector = _unit(vector, 0)
    return _unit(weights["WPCA.0.weight"][:, :, 0, 0] @ vector + weights["WPCA.0.bias"], 0)


@pytest.mark.parametrize(
    ("writer", "head", "spec"),
    [
        (hloc_safetensors, _hloc_head, SPEC),
        (pytorch_netvlad_safetensors, _pytorch_head, SPEC),
        (pytorch_netvlad_safetensors, _pytorch_head, V2),
    ],
    ids=["hloc", "pytorch-netvlad", "pytorch-netvlad v2"],
)
def test_the_modules_heads_give_the_nets_descriptor(
    tmp_path: Path,
    writer: ModuleType,
    head: Callable[[Array, dict[str, Array]], Array],
    spec: NetVLADSpec,
) -> None:
    net = seeded(spec, 3)
    writer.write(net, tmp_path / "net.safetensors")
    weights = {n: t.astype(np.float64) for n, t in load(tmp_path / "net.safetensors")[0].items()}
    outputs = oracle.run(net, np.random.default_rng(1).integers(0, 256, (1, 64, 80, 3)))
    features = outputs["conv5_3"][0].reshape(-1, 16).T
    expected = outputs["finalL2"].reshape(-1)
    np.testing.assert_allclose(head(features, weights), expected, atol=1e-6)


# --- the bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_bytes_each_time_and_the_library_reads_them(tmp_path: Path, writer: str) -> None:
    digests = set()
    for name in ("one.safetensors", "two.safetensors"):
        WRITERS[writer].write(mini(), tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    library = pytest.importorskip("safetensors.numpy", reason="it reads them")
    theirs = library.load_file(tmp_path / "one.safetensors")
    ours, _ = load(tmp_path / "one.safetensors")
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(theirs[name], tensor)


def _fortran(net: Checkpoint) -> Checkpoint:
    return replace(net, tensors={k: np.asfortranarray(t) for k, t in net.tensors.items()})


def test_arrays_in_any_order_are_written_alike(tmp_path: Path) -> None:
    hloc_safetensors.write(mini(), tmp_path / "one.safetensors")
    hloc_safetensors.write(_fortran(mini()), tmp_path / "two.safetensors")
    one, two = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
