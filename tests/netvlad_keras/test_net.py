"""`NetSpec`: what it refuses, what follows from it, and its way through JSON. No Keras."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from netvlad_keras.errors import NetError
from netvlad_keras.net import NetLayer, NetSpec, Weight
from netvlad_keras.spec import NetVLADSpec, canonical_name, keras_name

ROOT = Path(__file__).resolve().parents[2]


def _conv(name: str, source: str, owner: str = "", size: int = 3, **options: Any) -> NetLayer:
    owner = owner or name
    weights = (
        Weight("kernel", f"{owner}/kernel", (size, size, 2, 2)),
        Weight("bias", f"{owner}/bias", (2,)),
    )
    return NetLayer(name, "conv", (source,), weights, options)


def _row(name: str, kind: str, *inputs: str, **options: Any) -> NetLayer:
    return NetLayer(name, kind, inputs, (), options)


def _net(
    *rows: NetLayer, inputs: tuple[tuple[str, int], ...] = (("x", 2),), **more: Any
) -> NetSpec:
    return NetSpec(inputs, rows, more.pop("outputs", ((rows[-1].name, "y"),)), **more)


SHARED = _net(
    _conv("a", "x", pad=(1, 1, 1, 1)),
    _conv("b", "a", owner="a", pad=(1, 1, 1, 1), dilate=(1, 1)),
    _row("up:2", "sum", "a", "b"),
    _conv("c", "up:2", stride=(2, 2.0)),
    outputs=(("c", "level1/out"), ("up:2", "up:2")),
    name="shared",
)


# --- what is refused ---

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two layers": (
        {"rows": (_row("a", "relu", "x"), _row("a", "relu", "x"))},
        "there are 2 of the name a",
    ),
    "a layer called as an input": (
        {"rows": (_row("a", "relu", "x"), _row("x", "relu", "a"))},
        "there are 2 of the name x",
    ),
    "two inputs": (
        {"inputs": (("x", 2), ("x", 3)), "rows": (_row("a", "relu", "x"),)},
        "there are 2 of the name x",
    ),
    "a stranger": (
        {"rows": (_row("a", "sum", "x", "z"),)},
        "a reads z, which is not there",
    ),
    "reads nothing": ({"rows": (_row("a", "relu"),)}, "a reads nothing"),
    "itself": ({"rows": (_row("a", "sum", "x", "a"),)}, "a cycle goes through a"),
    "a cycle": (
        {
            "rows": (
                _row("a", "sum", "x", "c"),
                _row("b", "relu", "a"),
                _row("c", "relu", "b"),
                _row("d", "relu", "c"),
            )
        },
        "a cycle goes through (a, c, b|b, a, c|c, b, a|a, b, c|b, c, a|c, a, b)",
    ),
    "out of order": (
        {"rows": (_row("a", "relu", "b"), _row("b", "relu", "x"))},
        "a stands before b, which it reads",
    ),
    "no rows": ({"rows": (), "outputs": ()}, "a net has inputs, layers and outputs"),
    "an output of nothing": (
        {"rows": (_row("a", "relu", "x"),), "outputs": (("b", "y"),)},
        "the output y is of b, which is no layer",
    ),
    "two outputs of a name": (
        {"rows": (_row("a", "relu", "x"),), "outputs": (("a", "y"), ("a", "y"))},
        "2 outputs are called y",
    ),
    "another shape": (
        {"rows": (_conv("a", "x"), _conv("b", "a", owner="a", size=5))},
        r"b: a/kernel is \(3, 3, 2, 2\) elsewhere, \(5, 5, 2, 2\) here",
    ),
    "a weight of nobody": (
        {"rows": (_conv("b", "x", owner="a"),)},
        "b: its kernel is called a/kernel",
    ),
    "two weights of a role": (
        {"rows": (NetLayer("a", "conv", ("x",), (Weight("k", "a/k", (1,)),) * 2),)},
        "a has 2 weights called k",
    ),
    "a mean of other channels": (
        {"rows": (_row("a", "relu", "x"),), "mean": (1.0, 2.0, 3.0)},
        r"a mean of shape \(3,\) does not fit x with its 2 channels",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_net_is_refused(fault: str) -> None:
    parts, message = REFUSED[fault]
    whole = {"inputs": (("x", 2),), "outputs": (("a", "y"),), **parts}
    if fault == "a weight of nobody":
        whole["outputs"] = (("b", "y"),)
    with pytest.raises(NetError, match=message):
        NetSpec(**whole)


def test_every_fault_stands_in_one_error() -> None:
    rows = (_row("a", "relu", "z"), _row("a", "relu", "x"), _row("b", "relu"))
    with pytest.raises(NetError) as caught:
        NetSpec((("x", 1),), rows, (("c", "y"),))
    assert caught.value.faults == (
        "there are 2 of the name a",
        "a reads z, which is not there",
        "b reads nothing",
        "the output y is of c, which is no layer",
    )
    assert isinstance(caught.value, ValueError)


def test_a_net_that_no_size_gets_through_says_so() -> None:
    net = _net(_row("a", "affinegrid", "x", Ho=3, Wo=3), _conv("b", "a"), _conv("c", "b"))
    with pytest.raises(NetError, match="no input up to"):
        _ = net.minimum_size


# --- what follows ---


def test_layers_and_weights() -> None:
    assert SHARED.layers == (("a", "conv"), ("b", "conv"), ("up:2", "sum"), ("c", "conv"))
    assert SHARED.weight_shapes == {
        "a/kernel": (3, 3, 2, 2),
        "a/bias": (2,),
        "c/kernel": (3, 3, 2, 2),
        "c/bias": (2,),
    }


def test_a_mean_is_the_first_weight_of_the_first_input() -> None:
    inputs = (("data", 2), ("x", 2))
    row = _row("a", "sum", "data", "x")
    assert list(_net(row, inputs=inputs, mean=[1, 2]).weight_shapes.items()) == [
        ("data/mean", (2,))
    ]
    whole = [[[1.0, 2.0]] * 4] * 3
    assert _net(row, inputs=inputs, mean=whole).weight_shapes == {"data/mean": (3, 4, 2)}


# rows, the smallest size
MINIMA: list[tuple[tuple[NetLayer, ...], int]] = [
    ((_row("a", "relu", "x"),), 1),
    ((_conv("a", "x"),), 3),
    ((_conv("a", "x", pad=(1, 1, 1, 1)),), 1),
    ((_conv("a", "x", pad=(1, 1, 0, 1)),), 2),
    ((_conv("a", "x", dilate=(2, 3)),), 7),
    ((_row("a", "pool", "x", pool=(2, 2), stride=(2, 2)), _conv("b", "a", size=7)), 14),
    ((_row("a", "pool", "x", pool=(3, 3), stride=(2, 2), pad=(0, 1, 0, 1)),), 2),
    ((_conv("a", "x", size=11, stride=(4, 4)), _conv("b", "a", size=6)), 31),
    ((NetLayer("a", "convt", ("x",), (Weight("kernel", "a/kernel", (4, 4, 2, 2)),),
               {"upsample": (2, 2), "crop": (1, 1, 1, 1)}), _conv("b", "a", size=9)), 5),
    ((_row("a", "concat", "x", "x", dim=1), _conv("b", "a")), 3),
    ((_conv("a", "x", pad=(2, 2, 2, 2)), _row("b", "crop", "a", "x", crop=(1, 1)),
      _conv("c", "b", size=5)), 5),
    ((_row("a", "layerTotalMaxPool", "x"), _conv("b", "a", size=1)), 1),
    ((_row("a", "MyKind", "x"), _conv("b", "a")), 3),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "size"), MINIMA)
def test_the_smallest_size(rows: tuple[NetLayer, ...], size: int) -> None:
    assert _net(*rows).minimum_size == size


@pytest.mark.parametrize("name", ["vd16_pitts30k_conv5_3_max", "caffe_pitts30k_conv5_avg"])
def test_the_smallest_size_of_a_published_trunk(name: str) -> None:
    spec = NetVLADSpec.from_name(name)
    rows, source, channels = [], "image", 3
    for row in spec.trunk:
        shape = (*row.kernel, channels // row.groups, row.width)
        weights = (Weight("kernel", f"{row.name}/kernel", shape),) if row.kind == "conv" else ()
        options = {"pad": row.pads, "stride": row.stride, "pool": row.kernel}
        rows.append(NetLayer(row.name, row.kind, (source,), weights, options))
        source, channels = row.name, row.width or channels
    assert NetSpec(spec.inputs, tuple(rows), ((source, "y"),)).minimum_size == spec.minimum_size


# --- as data ---


@pytest.mark.parametrize(
    "spec", [SHARED, replace(SHARED, mean=[0.1, 2]), replace(SHARED, mean=[[[0.1, 2.5]]])]
)
def test_json_and_pickle_bring_it_back_exactly(spec: NetSpec) -> None:
    again = NetSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.rows[3].options == {"stride": (2, 2.0)}
    assert (hash(again), repr(again)) == (hash(spec), repr(spec))
    assert NetSpec.from_dict(spec.to_dict()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SHARED.name = "other"  # type: ignore[misc]


def test_a_netvlad_says_its_inputs_and_outputs_in_the_same_words() -> None:
    assert NetVLADSpec().inputs == (("image", 3),)
    assert NetVLADSpec().outputs == (("finalL2", "descriptor"),)
    assert NetVLADSpec.from_name("vd16_pitts30k_conv5_3_max").outputs == (("postL2", "descriptor"),)


@pytest.mark.parametrize(
    ("layer", "weight", "name"),
    [
        ("conv1", "kernel", "conv1/kernel"),
        ("vlad.3Acore", "centers", "vlad:core/centers"),
        ("data.mean", "mean", "data/mean"),
        (keras_name("data.mean"), "mean", "data.mean/mean"),  # a source's layer of that name
        ("input", "mean", "input/mean"),
    ],
)
def test_the_canonical_name(layer: str, weight: str, name: str) -> None:
    assert canonical_name(layer, weight) == name


def test_it_needs_no_keras() -> None:
    code = (
        "import sys; from netvlad_keras import NetSpec, NetError; "
        "heavy = {'keras', 'tensorflow', 'torch', 'h5py'} & set(sys.modules); sys.exit(bool(heavy))"
    )
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=path, check=False).returncode == 0
