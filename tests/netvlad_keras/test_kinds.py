"""The Keras layer of each of MatConvNet's kinds against the witness's function in float64."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from netvlad_keras.graph import KINDS, MatConvNetModel  # noqa: E402
from netvlad_keras.layers import (  # noqa: E402
    Concatenation,
    Convolution,
    Dropout,
    MaxPooling,
    Scale,
    Sum,
    TransposedConvolution,
)
from netvlad_keras.net import NetError, NetLayer, NetSpec, Weight  # noqa: E402
from verify.operators import OPERATORS  # noqa: E402

pytestmark = pytest.mark.torch  # they hold on either backend

Array = NDArray[Any]


# --- the cases ---


@dataclass(frozen=True)
class Case:
    """A kind, its settings, the shapes of its weights by role, and of its inputs (N×H×W×C)."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ((2, 11, 8, 6),)

    @property
    def spec(self) -> NetSpec:
        """The one layer as a net."""
        inputs = tuple((f"x{i}", shape[-1]) for i, shape in enumerate(self.shapes))
        weights = tuple(Weight(r, f"l/{r}", shape) for r, shape in self.weights.items())
        row = NetLayer("l", self.kind, tuple(name for name, _ in inputs), weights, self.options)
        return NetSpec(inputs, (row,), (("l", "y"),))


def _filters(*kernel: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {"kernel": kernel, **({"bias": kernel[3:]} if bias else {})}


def _transposed(*kernel: int, groups: int = 1, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {"kernel": kernel, **({"bias": (kernel[2] * groups,)} if bias else {})}


BNORM = dict.fromkeys(("multiplier", "offset", "mean", "sigma"), (6,))
TWO = ((2, 7, 5, 6), (2, 7, 5, 6))

CASES = {
    "conv": Case("conv", {}, _filters(3, 2, 6, 4)),
    "conv no bias": Case("conv", {"pad": (1, 1, 1, 1)}, _filters(3, 3, 6, 4, bias=False)),
    "conv uneven": Case("conv", {"pad": (2, 0, 1, 3), "stride": (2.0, 3.0)}, _filters(3, 4, 6, 4)),
    "conv same": Case("conv", {"pad": (0, 1, 1, 2)}, _filters(2, 4, 6, 4)),
    "conv dilated": Case("conv", {"pad": (2, 2, 3, 1), "dilate": (2, 3)}, _filters(3, 2, 6, 4)),
    "conv dilated, same": Case("conv", {"pad": (4,) * 4, "dilate": (4, 4)}, _filters(3, 3, 6, 4)),
    "conv dilated, strided": Case(
        "conv", {"pad": (1, 2, 0, 3), "dilate": (2, 1), "stride": (2, 3)}, _filters(3, 3, 6, 4)
    ),
    "conv groups": Case("conv", {"pad": (1, 0, 0, 1)}, _filters(3, 3, 2, 9)),
    "conv depthwise": Case("conv", {"stride": (2, 1)}, _filters(2, 3, 1, 12, bias=False)),
    "conv over all": Case("conv", {}, _filters(11, 8, 6, 5)),
    "convt": Case("convt", {"upsample": (2, 2), "crop": (1, 1, 1, 1)}, _transposed(4, 4, 3, 6)),
    "convt uneven": Case(
        "convt", {"upsample": (2, 3), "crop": (1, 0, 0, 2)}, _transposed(3, 4, 5, 6, bias=False)
    ),
    "convt sparse": Case(
        "convt", {"upsample": (3, 2), "crop": (0, 2, 1, 0)}, _transposed(1, 1, 2, 6)
    ),
    "convt groups": Case(
        "convt", {"upsample": (2, 1), "numGroups": 3.0}, _transposed(4, 3, 2, 6, groups=3)
    ),
    "convt plain": Case("convt", {"crop": (1, 1, 2, 0)}, _transposed(3, 3, 4, 6)),
    "max": Case("pool", {"pool": (3, 2), "stride": (2, 3), "pad": (1, 2, 0, 1)}),
    "avg": Case("pool", {"pool": (2, 3), "stride": (2, 2), "method": "avg"}),
    "avg uneven": Case(
        "pool", {"pool": (3, 4), "stride": (2, 1), "pad": (1, 2, 0, 3), "method": "avg"}
    ),
    "avg of all": Case("pool", {"pool": (11, 8), "method": "avg"}),
    "relu": Case("relu", {"leak": 0}),
    "leaky": Case("relu", {"leak": 0.2}),
    "sigmoid": Case("sigmoid"),
    "softmax": Case("softmax"),
    "dropout": Case("dropout", {"rate": 0.5}),
    "bnorm": Case("bnorm", {"epsilon": 1e-5}, BNORM),
    "lrn": Case("normalize", {"param": (5, 1, 0.5, 0.75)}),
    "lrn even": Case("lrn", {"param": (4, 2, 0.5, 0.75)}),
    "lrn of all": Case("normalize", {"param": (40, 2, 0.5, 0.75)}),
    "l2": Case("normalize", {"param": (12, 1e-12, 1, 0.5)}),
    "spnorm": Case("spnorm", {"param": (3, 4, 0.5, 0.75)}),
    "normoffset": Case("normoffset", {"param": (0.3, 0.7)}),
    "concat": Case("concat", {}, {}, ((2, 7, 5, 6), (2, 7, 5, 1))),
    "concat rows": Case("concat", {"dim": 1}, {}, ((2, 7, 5, 6), (2, 3, 5, 6))),
    "concat columns": Case("concat", {"dim": 2.0}, {}, ((2, 7, 5, 6), (2, 7, 2, 6))),
    "concat batches": Case("concat", {"dim": 4}, {}, ((2, 7, 5, 6), (3, 7, 5, 6))),
    "sum": Case("sum", {}, {}, (*TWO, TWO[0])),
    "product": Case("product", {}, {}, TWO),
    "product spread": Case("product", {}, {}, ((2, 7, 5, 6), (2, 1, 1, 6))),
    "scale": Case("scale", {"hasBias": True}, {"multiplier": (6,), "bias": (6,)}),
    "scale image": Case("scale", {"hasBias": False}, {"multiplier": (11, 8, 6)}),
    "scale input": Case("scale", {"hasBias": False}, {}, ((2, 7, 5, 6), (2, 1, 1, 6))),
    "scale input bias": Case("scale", {}, {"bias": (6,)}, ((2, 7, 5, 6), (2, 1, 1, 6))),
    "axpy": Case("Axpy", {}, {}, ((2, 1, 1, 6), *TWO)),
    "crop": Case("crop", {"crop": (2, 1)}, {}, ((2, 9, 8, 6), (2, 4, 7, 3))),
    "crop less": Case("crop", {"crop": (5, 0)}, {}, ((2, 9, 8, 6), (2, 7, 5, 3))),
    "flatten": Case("flatten"),
    "noffset": Case("noffset", {"param": (0.3, 0.7)}),
    "affinegrid": Case("affinegrid", {"Ho": 4, "Wo": 3}, {}, ((2, 1, 1, 6),)),
    "affinegrid of one": Case("affinegrid", {"Ho": 1, "Wo": 3}, {}, ((2, 1, 1, 6),)),
    "bilinearsampler": Case("bilinearsampler", {}, {}, ((2, 7, 5, 6), (2, 2, 4, 3))),
    "bilinearsampler many": Case("bilinearsampler", {}, {}, ((2, 7, 5, 6), (6, 2, 4, 3))),
    "vlad": Case("layerVLAD", {}, {"assignment": (6, 4), "centers": (6, 4)}),
    "vladv2": Case(
        "layerVLADv2", {}, {"assignment": (6, 4), "bias": (4,), "centers": (6, 4)}
    ),
    "whole l2": Case("layerWholeL2Normalize"),
    "total max": Case("layerTotalMaxPool"),
    "total avg": Case("layerTotalAvgPool"),
}  # fmt: skip


def _draw(shapes: Mapping[str, tuple[int, ...]], seed: int = 3) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    drawn = {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    return {n: abs(a) + np.float32(0.2) if n.endswith("sigma") else a for n, a in drawn.items()}


def _feed(case: Case, seed: int = 5) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        f"x{i}": rng.standard_normal(shape).astype("float32") for i, shape in enumerate(case.shapes)
    }


def _as_the_source_has_them(kind: str, weights: Mapping[str, Array]) -> list[Array]:
    """Weights in the source's order and signs, for the witness's functions."""
    given = dict(weights)
    if kind == "bnorm":
        given["mean"] = np.stack([given["mean"], given.pop("sigma")], axis=1)
    if kind.startswith("layerVLAD"):
        given["centers"] = -given["centers"]
    return list(given.values())


def _arrays(output: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(output["y"]))


#: Those whose inputs have one batch size, as Keras's own loops need it.
BATCHED = [name for name, case in CASES.items() if len({shape[0] for shape in case.shapes}) == 1]


@pytest.fixture(params=CASES)
def each(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


# --- what is refused ---


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (Case("conv", {}, _filters(3, 3, 4, 4)), "4 filters of depth 4 cannot share 6 channels"),
        (Case("conv", {}, _filters(3, 3, 2, 4)), "4 filters of depth 2 cannot share 6 channels"),
        (Case("conv", {}, _filters(3, 3, 12, 4)), "of depth 12 cannot share 6 channels"),
        (Case("conv", {"stride": (1.5, 1)}, _filters(1, 1, 6, 4)), "stride is .* whole numbers"),
        (Case("conv", {"pad": (1, 1)}, _filters(1, 1, 6, 4)), "pad is .* 4 whole numbers"),
        (Case("conv"), "filters are \\(\\)"),
        (Case("convt", {}, _transposed(3, 3, 4, 5)), "kernel is"),
        (Case("convt", {"numGroups": 4}, _transposed(3, 3, 1, 6, groups=4)), "4 groups"),
        (Case("pool", {"pool": (2, 2), "method": "sum"}), "no pooling method 'sum'"),
        (Case("pool", {"pool": (2, 2), "pad": (2, 0, 0, 0)}), "needs a larger pool"),
        (Case("dropout", {"rate": 1}), "rate of 1"),
        (Case("concat", {"dim": 5}), "dim is 5"),
        (Case("sum", {}, {}, ((2, 7, 5, 6), (2, 7, 5, 1))), "differ in shape"),
        (Case("concat", {"dim": 1}, {}, ((2, 7, 5, 6), (2, 7, 5, 1))), "differ in shape"),
        (Case("bnorm", {}, {**BNORM, "mean": (5,)}), r"mean is \(5,\), the layer takes \(6,\)"),
        (Case("bnorm", {}, {"multiplier": (6,)}), "makes a weight offset, the net has none"),
        (Case("relu", {}, {"kernel": (1,)}), "a weight kernel, the layer makes none"),
        (Case("crop"), "reads 1 inputs, not 2"),
        (Case("bilinearsampler", {}, {}, (*TWO, TWO[0])), "reads 3 inputs, not 2"),
        (Case("relu", {}, {}, TWO), "reads 2 inputs, not 1"),
        (Case("spnorm"), "param"),
        (Case("flatten", {"axis": 1}), "flattens along axis 1"),
        (Case("scale", {}, {"multiplier": (6,)}), "hasBias asks for 2 weights or inputs"),
        (Case("scale", {"hasBias": False}, {}, (*TWO, TWO[0])), "hasBias asks for 1 .* not 2"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_its_layer(refused: Case, message: str) -> None:
    with pytest.raises(NetError, match=message) as caught:
        MatConvNetModel(refused.spec)
    assert caught.value.faults[0].startswith(f"l ({refused.kind}): ")


def test_a_sum_spreads_nothing() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        Sum()([np.ones((1, 3, 1, 2)), np.ones((1, 3, 3, 2))])


# --- what is computed ---


def test_there_is_a_case_for_every_kind() -> None:
    assert {case.kind for case in CASES.values()} == set(KINDS) <= set(OPERATORS)


def test_it_computes_what_matconvnet_does(each: Case) -> None:
    model = MatConvNetModel(each.spec, zeros=True)
    weights = _draw(each.spec.weight_shapes)
    model.assign(weights)
    own = {name.partition("/")[2]: np.asarray(w, np.float64) for name, w in weights.items()}
    for seed, more in enumerate((0, 3)):
        growing = each.kind in ("conv", "pool", "relu", "spnorm", "convt") and len(each.shapes) == 1
        n, h, w, c = each.shapes[0]
        shapes = ((n, h + more, w + more, c), *each.shapes[1:]) if growing else each.shapes
        feed = _feed(Case(each.kind, {}, {}, shapes), seed)
        exact = [np.asarray(x, np.float64) for x in feed.values()]
        options = {k: v for k, v in each.options.items() if k not in ("rate", "epsilon")}
        expected = OPERATORS[each.kind](*exact, *_as_the_source_has_them(each.kind, own), **options)
        found = _arrays(model(feed))
        if found.ndim == 2:  # one vector per image
            expected = expected.reshape(len(expected), -1)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
        computed = model.get_layer("l").compute_output_shape(
            list(shapes) if len(shapes) > 1 else shapes[0]
        )
        assert tuple(computed) == found.shape
        symbolic = model.outputs[0].shape
        assert all(size in (None, real) for size, real in zip(symbolic, found.shape, strict=True))


@pytest.mark.parametrize("each", BATCHED, indirect=True)
def test_predict_gives_the_same(each: Case) -> None:
    model = MatConvNetModel(each.spec)
    model.assign(_draw(each.spec.weight_shapes))
    feed = _feed(each)
    found = model.predict_on_batch(feed)["y"]
    np.testing.assert_allclose(found, _arrays(model(feed)), rtol=0, atol=1e-6 * abs(found).max())


def test_the_layer_comes_back_from_its_configuration(each: Case) -> None:
    model = MatConvNetModel(each.spec)
    layer = model.get_layer("l")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(config)  # safe_mode, no custom_objects
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    tensors = [keras.ops.convert_to_tensor(x) for x in _feed(each).values()]
    argument = tensors if len(tensors) > 1 else tensors[0]
    expected = np.asarray(keras.ops.convert_to_numpy(layer(argument)))
    again(argument)
    again.set_weights(layer.get_weights())
    found = np.asarray(keras.ops.convert_to_numpy(again(argument)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("each", BATCHED, indirect=True)
def test_a_step_of_training_goes_through_it(each: Case) -> None:
    (row,) = each.spec.rows
    weight = Weight("multiplier", "s/multiplier", each.shapes[0][-1:])
    before = NetLayer("s", "scale", ("x0",), (weight,), {"hasBias": False})
    row = NetLayer("l", row.kind, ("s", *row.inputs[1:]), row.weights, row.options)
    spec = NetSpec(each.spec.inputs, (before, row), (("l", "y"),))
    model = MatConvNetModel(spec)
    weights = {**_draw(spec.weight_shapes), "s/multiplier": np.full(each.shapes[0][-1], 0.9)}
    model.assign(weights)
    feed = _feed(each)
    target = np.ones_like(_arrays(model(feed)))
    model.compile(keras.optimizers.SGD(1e-2), keras.losses.MeanSquaredError(), run_eagerly=True)
    model.train_on_batch(feed, {"y": target})
    after = {n: keras.ops.convert_to_numpy(v) for n, v in model.canonical_weights.items()}
    assert all(np.isfinite(array).all() for array in after.values())
    same = {n for n in after if np.array_equal(after[n], weights[n].astype("float32"))}
    assert same == {name for name in after if name.endswith(("/mean", "/sigma"))}


def test_dropout_drops_in_training_alone() -> None:
    x = keras.ops.ones((1, 50, 40, 3))
    layer = Dropout(0.25)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x)), 1)
    found = keras.ops.convert_to_numpy(layer(x, training=True))
    assert set(np.unique(found.round(5))) == {0.0, np.float32(1.33333)}
    assert 0.2 < (found == 0).mean() < 0.3
    assert layer.variables == []


# --- vectors among maps ---


def test_a_vector_goes_on_as_a_map_of_one(reference: Any) -> None:
    rows = (
        NetLayer("p", "layerTotalMaxPool", ("x",)),
        NetLayer("c", "conv", ("p",), (Weight("kernel", "c/kernel", (1, 1, 6, 4)),
                                       Weight("bias", "c/bias", (4,)))),
        NetLayer("r", "relu", ("c",)),
        NetLayer("n", "normalize", ("r",), (), {"param": (3, 1, 0.5, 0.75)}),
        NetLayer("b", "bnorm", ("n",), tuple(Weight(r, f"b/{r}", (4,)) for r in BNORM)),
        NetLayer("s", "softmax", ("b",)),
        NetLayer("k", "concat", ("s", "c")),
        NetLayer("g", "conv", ("k",), (Weight("kernel", "g/kernel", (1, 1, 4, 6)),)),
        NetLayer("t", "conv", ("k",), (Weight("kernel", "t/kernel", (3, 3, 8, 6)),),
                 {"pad": (1, 1, 1, 1)}),
        NetLayer("u", "sum", ("g", "t")),
        NetLayer("m", "product", ("x", "u")),
    )  # fmt: skip
    spec = NetSpec((("x", 6),), rows, (("u", "vector"), ("m", "map")))
    model = MatConvNetModel(spec)
    weights = _draw(spec.weight_shapes)
    model.assign(weights)
    x = _feed(CASES["relu"])["x0"]
    found = {name: keras.ops.convert_to_numpy(y) for name, y in model(x).items()}
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    c = x.max(axis=(1, 2)) @ w["c/kernel"][0, 0] + w["c/bias"]
    n = reference.lrn(np.maximum(c, 0)[:, None, None], 3, 1.0, 0.5, 0.75)[:, 0, 0]
    b = (n - w["b/mean"]) * w["b/multiplier"] / w["b/sigma"] + w["b/offset"]
    k = np.concatenate([np.exp(b) / np.exp(b).sum(axis=1, keepdims=True), c], axis=1)
    g = [k[:, 4 * i : 4 * i + 4] @ w["g/kernel"][0, 0, :, 3 * i : 3 * i + 3] for i in (0, 1)]
    u = np.concatenate(g, axis=1) + k @ w["t/kernel"][1, 1]
    np.testing.assert_allclose(found["vector"], u, atol=1e-5)
    np.testing.assert_allclose(found["map"], x * u[:, None, None], atol=1e-5)


def test_a_flattened_map_of_any_size_meets_its_filters() -> None:
    rows = (
        NetLayer("f", "flatten", ("x",)),
        NetLayer("c", "conv", ("f",), (Weight("kernel", "c/kernel", (1, 1, 60, 4)),)),
    )
    spec = NetSpec((("x", 3),), rows, (("c", "y"),))
    model = MatConvNetModel(spec)
    weights = _draw(spec.weight_shapes)
    model.assign(weights)
    x = _feed(Case("relu", {}, {}, ((2, 5, 4, 3),)))["x0"]
    expected = np.stack([image.ravel(order="F") for image in x]) @ weights["c/kernel"][0, 0]
    for found in (_arrays(model(x)), model.predict(x, verbose=0)["y"]):
        assert found.shape == (2, 1, 1, 4)
        np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-5)


def test_vectors_have_no_rows_to_put_one_behind_the_other() -> None:
    with pytest.raises(ValueError, match="vectors have no axis 1"):
        Concatenation(1)([np.ones((2, 3)), np.ones((2, 3))])


# --- the layers by themselves ---


def test_a_layer_alone_has_the_defaults_of_matconvnet() -> None:
    x = np.ones((1, 4, 5, 2), np.float32)
    assert tuple(Convolution(3, (2, 2))(x).shape) == (1, 3, 4, 3)
    assert tuple(TransposedConvolution(3, (2, 2))(x).shape) == (1, 5, 6, 3)
    assert tuple(MaxPooling((2, 2), (1, 1))(x).shape) == (1, 3, 4, 2)
    assert tuple(Scale(multiplier=(2,))(x).shape) == (1, 4, 5, 2)


@pytest.mark.parametrize("strides", [1, 2, (2, 1), [1, 2]])
def test_strides_are_one_number_or_two(strides: Any) -> None:
    layer = Convolution(3, (2, 2), strides=strides)
    assert layer.get_config()["strides"] == ([strides] * 2 if isinstance(strides, int)
                                             else list(strides))  # fmt: skip
