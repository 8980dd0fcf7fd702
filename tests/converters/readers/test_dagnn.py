"""DagNN nets, from both containers: what they become, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.errors import LayerError
from converters.readers.matconvnet import read

Save = Callable[..., Path]
RNG = np.random.default_rng(11)
NOTHING = np.zeros((0, 0))
CONV = {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (1, 1)}


def single(*shape: int) -> Array:
    return RNG.standard_normal(shape, dtype=np.float32)


def row(*numbers: float) -> Array:
    return np.array([numbers], dtype=float)


FILTERS, BIASES = single(3, 3, 2, 2), single(2, 1)


def layer(
    name: str, kind: str, inputs: Any, outputs: Any = None, params: Any = NOTHING, block: Any = None
) -> dict[str, Any]:
    """As `saveobj` writes it; what it makes has its own name where none is given."""
    return {
        "name": name,
        "type": f"dagnn.{kind}",
        "inputs": inputs,
        "outputs": name if outputs is None else outputs,
        "params": params,
        "block": NOTHING if block is None else block,
    }


def params(**values: Any) -> tuple[dict[str, Any], ...]:
    fields = {"learningRate": 1.0, "weightDecay": 1.0}
    return tuple({"name": name, "value": value} | fields for name, value in values.items())


def net(*layers: dict[str, Any], **values: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"layers": layers, "meta": {"a": 1.0}, "conserveMemory": 1.0}
    made["params"] = params(**values) if values else []
    return made


def faults(path: Path) -> dict[str, str]:
    with pytest.raises(LayerError) as caught:
        read(path)
    assert caught.value.path == str(path)
    return caught.value.faults


def shape_of(found: Checkpoint) -> list[tuple[str, str, tuple[str, ...], str]]:
    return [(each.name, each.kind, each.inputs, each.output) for each in found.layers]


# --- what is refused


def test_a_cycle_is_named(save: Save) -> None:
    found = faults(
        save(
            net=net(
                layer("first", "ReLU", "x", "a"),
                layer("p", "Sum", ["a", "r"], "p"),
                layer("q", "ReLU", "p", "q"),
                layer("r", "ReLU", "q", "r"),
                layer("last", "ReLU", "r", "y"),
                layer("itself", "ReLU", "i", "i"),
            )
        )
    )
    assert found.keys() == {"p", "q", "r", "itself"}
    assert found["itself"] == "is in a cycle: itself → itself"
    assert re.fullmatch(r"is in a cycle: (p → q → r → p|q → r → p → q|r → p → q → r)", found["q"])


def test_every_missing_parameter_in_one_error(save: Save) -> None:
    found = faults(
        save(
            net=net(
                layer("a", "Conv", "x", params=["af", "ab"]),
                layer("b", "Conv", "a", params=["f", "bb"]),
                layer("c", "BatchNorm", "b", params=["cm", "f", "cs"]),
                f=FILTERS,
            )
        )
    )
    assert found == {
        "a": "its parameters af, ab are not in the net",
        "b": "its parameters bb are not in the net",
        "c": "its parameters cm, cs are not in the net",
    }


@pytest.mark.parametrize(
    ("entry", "values", "reason"),
    [
        (layer("it", "Conv", "x", params="f"), {"f": FILTERS}, "has 1 parameters where its Conv"),
        (layer("it", "Conv", "x"), {}, "has 0 parameters where its Conv has 2"),
        (layer("it", "Scale", "x", params="f"), {"f": single(1, 1, 2)}, "1 parameters where its S"),
        (layer("it", "BatchNorm", "x", params=["f", "b"]), {"f": BIASES, "b": BIASES}, "moments"),
        (
            layer("it", "BatchNorm", "x", params=["f", "b", "m"]),
            {"f": BIASES, "b": BIASES, "m": single(2, 3)},
            r"parameter m has shape \(2, 3\) where mean and sigma",
        ),
        (
            layer("it", "Conv", "x", params=["f", "b"]),
            {"f": np.full((3, 3, 1, 2), np.inf), "b": BIASES},
            "parameter f .*18 of 18 values are NaN or infinite",
        ),
        (
            layer("it", "Conv", "x", params=["f", "b"]),
            {"f": NOTHING, "b": BIASES},
            "parameter f is empty",
        ),
        (layer("it", "Conv", "x", params=["f", "b"]), {"f": "no", "b": BIASES}, "f is a text"),
        (layer("it", "ReLU", ""), {}, "a ReLU that reads nothing"),
        (layer("it", "Slice", "x", ["a", "b"]), {}, "a Slice that makes a, b; one output"),
        (layer("it", "ReLU", "x", NOTHING), {}, "a ReLU that makes nothing; one output"),
        (layer("it", "ReLU", "it", "y"), {}, "called as one of the net's own inputs"),
        (layer("it", "ReLU", 7.0), {}, "inputs is a 1×1 float64 array where names belong"),
        (layer("it", "ReLU", "x", block="text"), {}, "its block is a text where a struct belongs"),
        (layer("it", "ReLU", "x", block={"leak": "much"}), {}, "leak is a text"),
        (layer("it", "Concat", "x", block={"dim": 5.0}), {}, "dim is 5, an axis is 1, 2, 3 or 4"),
        (layer("it", "Crop", ["x", "z"], block={"crop": row(-1, 0)}), {}, "crop is"),
        (layer("it", "AffineGridGenerator", "x"), {}, "has no Ho"),
        (layer("it", "", "x") | {"type": NOTHING}, {}, "has no type"),
    ],
)
def test_bad_layer(save: Save, entry: dict[str, Any], values: dict[str, Any], reason: str) -> None:
    found = faults(save(net=net(entry, **values)))
    assert list(found) == ["it"]
    assert re.search(reason, found["it"]), found


def test_names_that_clash(save: Save) -> None:
    found = faults(
        save(
            net=net(
                layer("a", "ReLU", "x", "v"),
                layer("a", "ReLU", "v", "w"),
                layer("b", "ReLU", "x", "v"),
                layer("c", "Conv", "x", params=["f", "b"]),
                layer("d", "Conv", "c", params=["f", "b"]),
            )
            | {"params": params(f=FILTERS, b=BIASES) + params(f=FILTERS)}
        )
    )
    assert found == {
        "a": "2 layers are called so",
        "b": "makes v, which a makes too",
        "c": "there are 2 parameters f",
        "d": "there are 2 parameters f",
    }


def test_a_parameter_that_is_a_vector_here_and_a_map_there(save: Save) -> None:
    found = faults(
        save(
            net=net(
                layer("a", "Conv", "x", params=["f", "b"]),
                layer("b", "Scale", "a", params="b", block={"hasBias": 0.0}),
                f=FILTERS,
                b=BIASES,
            )
        )
    )
    assert found == {"b": "parameter b is read with 1 axes by another layer"}


def test_what_reads_a_loss_beside_other_things(save: Save) -> None:
    layers = [
        layer("out", "ReLU", "x"),
        layer("objective", "Loss", ["out", "label"]),
        layer("mixed", "Sum", ["out", "objective"]),
    ]
    assert faults(save(net=net(*layers))) == {"mixed": "reads the loss objective"}


# --- what is read


def test_layers(save: Save) -> None:
    found = read(
        save(
            net=net(
                layer("c1", "Conv", "LR", "v1", ["c1f", "c1b"], {"pad": 1.0, "size": row(3, 3, 2)}),
                layer("r1", "ReLU", "v1", "v2", block={"leak": 0.2, "opts": []}),
                layer(
                    "up",
                    "ConvTranspose",
                    ["v2"],
                    ["v3"],
                    ["upf"],
                    {"upsample": row(2, 2), "crop": row(1, 0), "hasBias": 0.0},
                ),
                layer("out", "Sum", ["v3", "LR"], "sum", block={}),
                c1f=FILTERS,
                c1b=BIASES,
                upf=single(4, 4),
            )
        )
    )
    assert found.layers == (
        Layer("c1", "conv", ("LR",), ("c1f", "c1b"), CONV | {"pad": (1, 1, 1, 1)}, "v1"),
        Layer("r1", "relu", ("c1",), (), {"leak": 0.2}, "v2"),
        Layer(
            "up",
            "convt",
            ("r1",),
            ("upf",),
            {"crop": (1, 1, 0, 0), "upsample": (2, 2), "numGroups": 1},
            "v3",
        ),
        Layer("out", "sum", ("up", "LR"), (), {}, "sum"),
    )
    np.testing.assert_array_equal(found.tensors["c1f"], FILTERS)
    np.testing.assert_array_equal(found.tensors["c1b"], BIASES[:, 0])
    assert found.tensors["upf"].shape == (4, 4, 1, 1)
    assert found.origin.notes == ()


@pytest.mark.parametrize("many", [list, tuple], ids=["cell arrays", "struct arrays"])
def test_cell_and_struct_arrays(save: Save, many: type) -> None:
    made = net(
        layer("a", "Conv", "x", params=["f", "b"]),
        layer("b", "ReLU", "a", params=[], block=NOTHING),
        f=FILTERS,
        b=BIASES,
    )
    made |= {"layers": many(made["layers"]), "params": many(made["params"])}
    found = read(save(net=made, state={"solverState": [1.0]}, stats={"train": 1.0}))
    assert shape_of(found) == [("a", "conv", ("x",), "a"), ("b", "relu", ("a",), "b")]
    assert list(found.tensors) == ["f", "b"]


def test_one_layer_and_one_parameter_at_the_top_level(save: Save) -> None:
    made = net(layer("", "Conv", "x", "y", "f", {"hasBias": 0.0}), f=FILTERS)
    found = read(save(**made, vars={"name": "x"}, opts={"a": 1.0}))
    assert shape_of(found) == [("layer1", "conv", ("x",), "y")]
    assert found.layers[0].params == ("f",)
    assert found.origin.notes == ("named by their place, for want of a name: layer1",)


def test_out_of_order(save: Save) -> None:
    found = read(
        save(
            net=net(
                layer("sum", "Sum", ["v2", "v1"], "y"),
                layer("two", "ReLU", "v1", "v2"),
                layer("other", "Sigmoid", "z", "w"),
                layer("one", "ReLU", "x", "v1"),
            )
        )
    )
    assert shape_of(found) == [
        ("other", "sigmoid", ("z",), "w"),
        ("one", "relu", ("x",), "v1"),
        ("two", "relu", ("one",), "v2"),
        ("sum", "sum", ("two", "one"), "y"),
    ]


def test_losses_are_left_out_with_what_only_they_read(save: Save) -> None:
    found = read(
        save(
            net=net(
                layer("total", "Sum", ["objective", "my"], "total"),
                layer("out", "ReLU", "x", "y"),
                layer("objective", "Loss", ["y", "label"], "objective", block={"loss": "log"}),
                layer("top1err", "Loss", ["y", "label"], "top1err"),
                layer("my", "vllab_dag_loss", ["y", "HR", "mask"], "my", "lambda"),
                layer("near", "PDist", ["y", "x"], "near"),
                **{"lambda": single(1, 1)},
            )
        )
    )
    assert shape_of(found) == [("out", "relu", ("x",), "y")]
    assert found.origin.notes == (
        "left out: total, a Sum",
        "left out: objective, a Loss, and label, which only a loss reads",
        "left out: top1err, a Loss, and label, which only a loss reads",
        "left out: my, a vllab_dag_loss, and HR, mask, which only a loss reads",
        "left out: near, a PDist",
        "left out: parameters that no layer reads: lambda",
    )


def test_a_distance_that_others_read_is_a_layer(save: Save) -> None:
    found = read(
        save(
            net=net(
                layer("d", "PDist", ["x", "z"], block={"p": 2.0, "aggregate": 0.0}),
                layer("out", "ReLU", "d"),
                layer("e", "EuclideanLoss", ["out", "y"]),
            )
        )
    )
    assert shape_of(found) == [("d", "PDist", ("x", "z"), "d"), ("out", "relu", ("d",), "out")]
    assert found.layers[0].options == {"p": 2, "aggregate": 0}


def test_many_layers_share_few_parameters(save: Save) -> None:
    layers = [
        layer(f"c{n}", "Conv", f"v{n}", f"v{n + 1}", [f"f{n % 3}", "b"], {"pad": 1.0})
        for n in range(150)
    ]
    values = {f"f{n}": single(3, 3, 2, 2) for n in range(3)}
    found = read(save(net=net(*layers, **values, b=BIASES, spare=BIASES, old=BIASES)))
    assert len(found.layers) == 150
    assert found.layers[149].params == ("f2", "b")
    assert list(found.tensors) == ["f0", "b", "f1", "f2"]
    assert found.parameters == 3 * 36 + 2
    assert found.origin.notes == ("left out: parameters that no layer reads: spare, old",)


@pytest.mark.parametrize(
    ("classname", "block", "kind", "options"),
    [
        ("Pooling", None, "pool", {"method": "max", "pool": (1, 1), "stride": (1, 1)}),
        (
            "Pooling",
            {"poolSize": 3.0, "method": "avg", "pad": row(1, 2), "stride": row(2, 1)},
            "pool",
            {"method": "avg", "pool": (3, 3), "stride": (2, 1), "pad": (1, 1, 2, 2)},
        ),
        ("ReLU", None, "relu", {"leak": 0}),
        ("ReLU", {"opts": ["leak", 0.1], "leak": 0.0}, "relu", {"leak": 0.1}),
        ("SoftMax", None, "softmax", {}),
        ("Sigmoid", None, "sigmoid", {}),
        ("DropOut", {"rate": 0.3, "frozen": 0.0}, "dropout", {"rate": 0.3}),
        ("DropOut", None, "dropout", {"rate": 0.5}),
        ("LRN", None, "normalize", {"param": (5, 1, 2e-5, 0.75)}),
        ("LRN", {"param": row(3, 2, 1e-3, 0.5)}, "normalize", {"param": (3, 2, 1e-3, 0.5)}),
        ("SpatialNorm", None, "spnorm", {"param": (2, 2, 10, 2)}),
        ("NormOffset", None, "normoffset", {"param": (1, 0.5)}),
        ("Concat", {"numInputs": 2.0}, "concat", {"dim": 3}),
        ("Concat", {"dim": 1.0}, "concat", {"dim": 1}),
        ("Sum", {"numInputs": 2.0}, "sum", {}),
        ("Times", None, "product", {}),
        ("Crop", None, "crop", {"crop": (0, 0)}),
        ("Crop", {"crop": row(19, 5)}, "crop", {"crop": (19, 5)}),
        ("Flatten", None, "flatten", {"axis": 3}),
        ("BilinearSampler", None, "bilinearsampler", {}),
        ("AffineGridGenerator", {"Ho": 4.0, "Wo": 5.0}, "affinegrid", {"Ho": 4, "Wo": 5}),
        ("Scale", {"hasBias": 0.0}, "scale", {"hasBias": False}),
        (
            "Mine",
            {"factor": 2.0, "mode": "up", "grid": np.array([[1.0, 2], [3, 4]]), "none": NOTHING},
            "Mine",
            {"factor": 2, "mode": "up", "grid": ((1, 2), (3, 4))},
        ),
        ("sum", {"weighted": 1.0}, "dagnn.sum", {"weighted": 1}),
    ],
)
def test_blocks(save: Save, classname: str, block: Any, kind: str, options: dict[str, Any]) -> None:
    (found,) = read(save(net=net(layer("it", classname, ["x", "z"], block=block)))).layers
    assert found.kind == kind
    assert {key: found.options[key] for key in options} == options
    if kind != "pool":
        assert found.options == options


def test_batch_norm_keeps_sigma(save: Save) -> None:
    moments = single(2, 2)
    block = {"numChannels": 2.0, "epsilon": 1e-4, "opts": ["NoCuDNN"]}
    found = read(
        save(
            net=net(
                layer("bn", "BatchNorm", "x", params=["m", "o", "s"], block=block),
                m=BIASES,
                o=BIASES.T.copy(),
                s=moments,
            )
        )
    )
    assert found.layers[0].options == {"epsilon": 1e-4}
    assert [found.tensors[name].shape for name in ("m", "o", "s")] == [(2,), (2,), (2, 2)]
    np.testing.assert_array_equal(found.tensors["s"], moments)


@pytest.mark.parametrize(
    ("inputs", "names", "block", "read_names"),
    [
        ("x", ["m", "o"], None, ("m", "o")),
        ("x", ["m", "o"], {"hasBias": 0.0}, ("m",)),
        (["x", "z"], ["o"], None, ("o",)),
        (["x", "z"], NOTHING, {"hasBias": 0.0}, ()),
        (["x", "z", "w"], NOTHING, {"hasBias": 1.0}, ()),
    ],
)
def test_scale_takes_inputs_then_parameters(
    save: Save, inputs: Any, names: Any, block: Any, read_names: tuple[str, ...]
) -> None:
    entry = layer("it", "Scale", inputs, params=names, block=block)
    found = read(save(net=net(entry, m=single(1, 1, 4), o=single(5, 6))))
    assert found.layers[0].params == read_names
    shapes = {"m": (1, 1, 4), "o": (5, 6, 1)}
    assert {name: found.tensors[name].shape for name in read_names} == {
        name: shapes[name] for name in read_names
    }


def test_trailing_axes_that_matlab_drops(save: Save) -> None:
    found = read(
        save(
            net=net(
                layer("a", "Conv", "x", params=["a", "b"], block={"size": row(1, 1, 6, 1)}),
                layer("own", "Mine", "a", params=["c", "d"], block={"size": row(5, 1, 1, 1)}),
                a=single(1, 1, 6),
                b=single(1, 1),
                c=single(5, 1),
                d=single(7, 1),
            )
        )
    ).tensors
    shapes = {name: tensor.shape for name, tensor in found.items()}
    assert shapes == {"a": (1, 1, 6, 1), "b": (1,), "c": (5, 1, 1, 1), "d": (7, 1)}


def test_empty_bias_and_no_copies(save: Save) -> None:
    entries = [layer("a", "Conv", "x", params=["f", "b"], block={"opts": ["cuDNN", "dilate", 2.0]})]
    found = read(save(net=net(*entries, f=FILTERS.astype(np.float64), b=NOTHING)))
    assert found.layers[0].params == ("f",)
    assert found.layers[0].options["dilate"] == (2, 2)
    assert found.tensors["f"].dtype == np.float64
    assert found.tensors["f"].flags.f_contiguous
    assert not found.tensors["f"].flags.owndata
    assert found.origin.notes == ()


def test_what_an_unknown_class_holds_beyond_settings_is_told(save: Save) -> None:
    block = {"kernel": single(3, 3, 2), "factor": 2.0}
    found = read(save(net=net(layer("it", "Mine", "x", block=block))))
    assert found.layers[0].options == {"factor": 2}
    assert found.origin.notes == ("left out: kernel (a 3×3×2 float32 array) of it, a Mine",)


def test_meta(save: Save) -> None:
    entries = [layer("a", "Conv", "x", params=["f", "b"])]
    mean = row(1.5, 2.5).astype(np.float32)
    meta = {"normalization": {"averageImage": mean, "imageSize": row(8, 8, 2)}}
    found = read(save(net=net(*entries, f=FILTERS, b=BIASES) | {"meta": meta}))
    assert found.tensors[MEAN].tolist() == [[[1.5, 2.5]]]
    assert found.preprocessing == {"imageSize": (8, 8, 2)}
