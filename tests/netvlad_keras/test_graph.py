"""`MatConvNetModel` through its public door, on either backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

keras = pytest.importorskip("keras")

from netvlad_keras import (  # noqa: E402
    InputShapeError,
    MatConvNetModel,
    NetError,
    NetSpec,
    NetVLADModel,
    NetVLADSpec,
    WeightsError,
)
from netvlad_keras.errors import InputError  # noqa: E402
from netvlad_keras.graph import KINDS, register  # noqa: E402
from netvlad_keras.kinds import READS  # noqa: E402
from netvlad_keras.net import NetLayer, Weight  # noqa: E402
from netvlad_keras.weights import opened  # noqa: E402

pytestmark = pytest.mark.torch

Array = NDArray[Any]
ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("model.keras", "model.h5", "model.weights.h5")


def _row(name: str, kind: str, *inputs: str, **options: Any) -> NetLayer:
    return NetLayer(name, kind, inputs, (), options)


def _conv(name: str, source: str, owner: str = "", bias: str = "", **options: Any) -> NetLayer:
    kernel = Weight("kernel", f"{owner or name}/kernel", (3, 3, 2, 2))
    weights = (kernel, Weight("bias", f"{bias or owner or name}/bias", (2,)))
    return NetLayer(name, "conv", (source,), weights, {"pad": (1, 1, 1, 1), **options})


#: Two inputs, two outputs, names that Keras does not take, and shared weights: whole
#: (`rec:2`), in part (`own`), and by a layer of another kind (`up`).
NET = NetSpec(
    (("LR", 2), ("side:1", 2)),
    (
        _conv("rec:1", "LR"),
        _row("relu:1", "relu", "rec:1", leak=0.2),
        _conv("rec:2", "relu:1", owner="rec:1"),
        _row("drop", "dropout", "rec:2", rate=0.5),
        _conv("own", "drop", owner="rec:1", bias="own"),
        NetLayer("norm:1", "bnorm", ("own",), tuple(
            Weight(role, f"norm:1/{role}", (2,))
            for role in ("multiplier", "offset", "mean", "sigma"))),
        _row("sum", "sum", "norm:1", "side:1"),
        NetLayer("up", "convt", ("sum",), (Weight("kernel", "rec:1/kernel", (3, 3, 2, 2)),),
                 {"upsample": (2, 2), "crop": (0, 1, 1, 0)}),
    ),
    (("up", "level1_output"), ("sum", "feature")),
    name="recursive",
)  # fmt: skip
#: The same without sharing.
APART = replace(
    NET,
    rows=tuple(
        replace(row, weights=tuple(replace(w, name=f"{row.name}/{w.role}") for w in row.weights))
        for row in NET.rows
    ),
)


def _draw(spec: NetSpec, seed: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    drawn = {n: rng.standard_normal(s).astype("float32") for n, s in spec.weight_shapes.items()}
    return {n: abs(a) + np.float32(0.5) if n.endswith("sigma") else a for n, a in drawn.items()}


def _feed(height: int = 7, width: int = 5, count: int = 2) -> dict[str, Array]:
    rng = np.random.default_rng(2)
    shape = (count, height, width, 2)
    return {name: rng.standard_normal(shape).astype("float32") for name in ("LR", "side:1")}


def _numpy(outputs: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(keras.ops.convert_to_numpy(y)) for name, y in outputs.items()}


def _equal(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    found, expected = _numpy(found), _numpy(expected)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def _built(spec: NetSpec = NET, seed: int = 1) -> MatConvNetModel:
    model = MatConvNetModel(spec, zeros=True)
    model.assign(_draw(spec, seed))
    return model


@pytest.fixture(scope="module")
def net() -> MatConvNetModel:
    """`NET` with drawn weights, which no test may change."""
    return _built()


# --- what is refused ---


def test_every_kind_that_is_not_known_is_named() -> None:
    rows = (_row("a", "SubP", "x"), _row("b", "relu", "a"), _row("c", "Times", "b"))
    with pytest.raises(NetError, match=r"register\(kind, factory\)") as caught:
        MatConvNetModel(NetSpec((("x", 2),), rows, (("c", "y"),)))
    assert caught.value.faults[:2] == ("a is of the kind SubP", "c is of the kind Times")


def test_every_layer_that_cannot_be_made_is_named() -> None:
    rows = (
        _row("a", "pool", "x", pool=(2, 2), method="median"),
        _row("b", "relu", "a"),
        _row("c", "concat", "x", "x", dim=7),
    )
    with pytest.raises(NetError) as caught:
        MatConvNetModel(NetSpec((("x", 2),), rows, (("b", "y"), ("c", "z"))))
    first, second = caught.value.faults
    assert first.startswith("a (pool): no pooling method 'median'")
    assert second.startswith("c (concat): dim is 7")


def test_a_shared_weight_that_does_not_fit_is_refused() -> None:
    rows = (
        _conv("a", "x"),
        _row("b", "concat", "a", "x"),
        _conv("c", "b", owner="a"),
        NetLayer("d", "convt", ("b",), (Weight("kernel", "a/kernel", (3, 3, 2, 2)),)),
    )
    with pytest.raises(NetError) as caught:
        MatConvNetModel(NetSpec((("x", 2),), rows, (("c", "y"), ("d", "z"))))
    (fault,) = caught.value.faults  # of the convolution's depth 2 the four channels are a multiple
    assert fault == "d (convt): kernel is shared, (3, 3, 2, 2), and not (3, 3, 2, 4)"


@pytest.mark.parametrize("door", ["__call__", "predict", "predict_on_batch"])
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (_feed()["LR"], InputError, "reads LR, side:1; given: 1 tensors"),
        ({"LR": _feed()["LR"]}, InputError, "reads LR, side:1; given: LR"),
        ({**_feed(), "third": _feed()["LR"]}, InputError, "given: LR, side:1, third"),
        (
            {"LR": _feed()["LR"], "side:1": np.zeros((2, 7, 5, 3))},
            InputShapeError,
            r"expected side:1 as \[batch, height, width, 2\] of .*; got shape \[2, 7, 5, 3\]",
        ),
        ([_feed()["LR"], np.zeros((7, 5, 2))], InputShapeError, r"got shape \[7, 5, 2\]"),
        ([_feed()["LR"], np.zeros((2, 0, 5, 2))], InputShapeError, r"got shape \[2, 0, 5, 2\]"),
    ],
)
def test_inputs_that_the_net_does_not_take(
    net: MatConvNetModel, door: str, inputs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(net, door)(inputs)


def test_sizes_that_do_not_get_through_are_refused_for_each_axis() -> None:
    row = NetLayer("fc", "conv", ("x",), (Weight("kernel", "fc/kernel", (4, 9, 2, 3)),))
    model = MatConvNetModel(NetSpec((("x", 2),), (row,), (("fc", "y"),)))
    assert model.spec.minimum_size == 9
    assert model(np.zeros((1, 4, 9, 2)))["y"].shape == (1, 1, 1, 3)
    for shape in [(1, 3, 20, 2), (1, 20, 8, 2)]:
        with pytest.raises(InputShapeError, match="at least 4×9; got shape"):
            model.predict(np.zeros(shape), verbose=0)


def test_the_sizes_of_several_inputs_are_looked_at_together() -> None:
    rows = (_row("c", "crop", "x", "like"),)
    model = MatConvNetModel(NetSpec((("x", 2), ("like", 1)), rows, (("c", "y"),)))
    found = model([np.zeros((1, 9, 8, 2)), np.zeros((1, 4, 8, 1))])["y"]
    assert found.shape == (1, 4, 8, 2)
    with pytest.raises(InputError, match="do not get through every layer: x 9×8, like 4×9"):
        model([np.zeros((1, 9, 8, 2)), np.zeros((1, 4, 9, 1))])


# --- NetVLAD, built both ways ---


def _as_net(spec: NetVLADSpec) -> NetSpec:
    """A NetVLAD in the words of any net; whitening is a convolution of 1×1."""
    trunk = {row.name: row for row in spec.trunk}
    rows, source, width = [], "image", 3
    for name, kind in spec.layers:
        shapes: dict[str, tuple[int, ...]] = {}
        options: dict[str, Any] = {}
        if name in trunk:
            row = trunk[name]
            options = {"pool": row.kernel, "stride": row.stride, "pad": row.pads}
            if kind == "conv":
                shapes["kernel"] = (*row.kernel, width // row.groups, row.width)
                shapes["bias"] = (row.width,)
                width = row.width
            elif kind == "normalize":
                options = {"param": row.lrn}
        elif kind == "normalize":
            options = {"param": (2 * spec.feature_width, 1e-12, 1, 0.5)}
        elif name == "WPCA":
            length = spec.feature_width * max(spec.clusters, 1)
            shapes = {"kernel": (1, 1, length, spec.whitening), "bias": (spec.whitening,)}
        else:
            own = {n: s for n, s in spec.weight_shapes.items() if n.startswith(f"{name}/")}
            shapes = {n.rpartition("/")[2]: s for n, s in own.items()}
        weights = tuple(Weight(role, f"{name}/{role}", s) for role, s in shapes.items())
        rows.append(NetLayer(name, kind, (source,), weights, options))
        source = name
    return NetSpec(spec.inputs, tuple(rows), spec.outputs, spec.name, spec.mean)


def _as_net_weights(arrays: Mapping[str, Array]) -> dict[str, Array]:
    renamed = {"input/mean": "image/mean"}
    found = {renamed.get(name, name): array for name, array in arrays.items()}
    if "WPCA/kernel" in found:
        found["WPCA/kernel"] = found["WPCA/kernel"][None, None]
    return found


def test_netvlad_comes_out_the_same_to_the_bit(
    case: str, specs: dict[str, NetVLADSpec], drawn: Any, images: Any
) -> None:
    spec = specs[case]
    one, other = NetVLADModel(spec, zeros=True), MatConvNetModel(_as_net(spec), zeros=True)
    one.assign(drawn(spec))
    other.assign(_as_net_weights(drawn(spec)))
    assert other.spec.layers == spec.layers
    assert other.spec.minimum_size == spec.minimum_size
    assert [layer.name for layer in other.layers[2:]] == [layer.name for layer in one.layers[2:]]
    x = images(2, 13, 10)
    _equal(other(x), {"descriptor": one(x)})
    if case.endswith("intra_white"):  # a traced graph takes a second each
        found = other.predict(x, verbose=0)
        _equal(found, {"descriptor": one.predict(x.astype("float32"), verbose=0)})
    assert tuple(other.outputs[0].shape) == one.output_shape


# --- inputs and outputs ---


@pytest.mark.parametrize(
    "arrange",
    [dict, lambda feed: list(feed.values()), lambda feed: tuple(feed.values()),
     lambda feed: dict(reversed(feed.items())),
     lambda feed: {"LR": feed["LR"], "side.3A1": feed["side:1"]}],
)  # fmt: skip
def test_inputs_are_given_by_name_or_in_order(net: MatConvNetModel, arrange: Any) -> None:
    expected = _numpy(net(_feed()))
    assert {name: y.shape for name, y in expected.items()} == {
        "level1_output": (2, 14, 10, 2),
        "feature": (2, 7, 5, 2),
    }
    _equal(net(arrange(_feed())), expected)
    for found in (net.predict(arrange(_feed()), verbose=0), net.predict_on_batch(arrange(_feed()))):
        assert list(found) == list(expected)
        for name, y in expected.items():
            np.testing.assert_allclose(found[name], y, atol=1e-5)


def test_one_input_may_be_an_array_a_list_or_a_dict() -> None:
    model = _built(NetSpec((("LR", 2),), NET.rows[:2], (("relu:1", "y"),)))
    x = _feed()["LR"]
    expected = _numpy(model(x))
    for given in ([x], {"LR": x}):
        _equal(model(given), expected)
        _equal(model.predict(given, verbose=0), model.predict(x, verbose=0))
    _equal(model.stateless_call(*_state(model), {"LR": x})[0], expected)


def _state(model: Any) -> tuple[list[Any], list[Any]]:
    return (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )


def test_the_order_is_the_net_s_and_not_the_alphabet_s() -> None:
    inputs = (("z", 1), ("a:b", 1), ("a0", 1))  # as Keras has them, a.3Ab stands before a0
    rows = (_row("c", "concat", "z", "a:b", "a0"),)
    model = MatConvNetModel(NetSpec(inputs, rows, (("c", "y"),)))
    given = [np.full((1, 2, 2, 1), value, np.float32) for value in (1, 2, 3)]
    named = dict(zip(("z", "a:b", "a0"), given, strict=True))
    expected = {"y": np.broadcast_to(np.asarray([1, 2, 3], np.float32), (1, 2, 2, 3))}
    for feed in (given, named):
        _equal(model(feed), expected)
        _equal(model.predict_on_batch(feed), expected)
        _equal(model.stateless_call(*_state(model), feed)[0], expected)


def test_bytes_and_floats_are_the_same() -> None:
    model = _built(NetSpec((("LR", 2),), NET.rows[:2], (("relu:1", "y"),)))
    x = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 2), dtype=np.uint8)
    expected = _numpy(model(x.astype("float32")))
    _equal(model(x), expected)
    _equal(model.predict(x, verbose=0), model.predict(x.astype("float32"), verbose=0))


@pytest.mark.parametrize("mean", [[1.5, -2.25], np.arange(24.0).reshape(4, 3, 2).tolist()])
def test_the_mean_is_subtracted_from_the_first_input(mean: Any) -> None:
    inputs = (("data", 2), ("LR", 2))
    spec = NetSpec(inputs, (_row("s", "sum", "data", "LR"),), (("s", "y"),), mean=mean)
    model = MatConvNetModel(spec)
    x = np.random.default_rng(0).random((2, 4, 3, 2)).astype("float32")
    zeros = np.zeros_like(x)
    _equal(model([x, zeros]), {"y": x - np.asarray(mean, np.float32)})
    assert list(model.canonical_weights) == ["data/mean"]
    assert model.trainable_variables == []
    model.assign({"data/mean": np.ones_like(mean)})  # the weight, not the spec's, counts
    _equal(model([x, zeros]), {"y": x - np.float32(1)})


def test_layers_carry_the_source_s_names(net: MatConvNetModel) -> None:
    names = {layer.name for layer in net.layers}
    assert names == {"LR", "side.3A1", "rec.3A1", "relu.3A1", "rec.3A2", "drop", "own",
                     "norm.3A1", "sum", "up"}  # fmt: skip
    assert list(net.canonical_weights) == list(NET.weight_shapes)
    assert {n: tuple(v.shape) for n, v in net.canonical_weights.items()} == NET.weight_shapes
    assert net.spec is NET


# --- shared weights ---


def test_the_owner_holds_what_others_use(net: MatConvNetModel) -> None:
    held = {layer.name: [v.name for v in layer.weights] for layer in net.layers if layer.weights}
    assert held == {
        "rec.3A1": ["kernel", "bias"],
        "own": ["bias"],
        "norm.3A1": ["multiplier", "offset", "mean", "sigma"],
    }
    kernel = net.canonical_weights["rec:1/kernel"]
    assert net.get_layer("rec.3A2").kernel is net.get_layer("up").kernel is kernel
    assert len(net.weights) == len(NET.weight_shapes) == 7
    assert net.count_params() == sum(np.prod(shape) for shape in NET.weight_shapes.values())


def test_it_computes_what_the_net_does_without_sharing(net: MatConvNetModel) -> None:
    apart = MatConvNetModel(APART)
    apart.assign(_spread(_draw(NET)))
    _equal(net(_feed()), apart(_feed()))


def _spread(shared: Mapping[str, Array]) -> dict[str, Array]:
    """Weights of `NET` as `APART` has them."""
    pairs = zip(NET.rows, APART.rows, strict=True)
    return {
        there.name: shared[here.name]
        for row, copy in pairs
        for here, there in zip(row.weights, copy.weights, strict=True)
    }


def test_a_step_of_training_changes_a_shared_weight_by_all_its_gradients() -> None:
    rate = 2.0**-7
    after = []
    weights = _draw(NET)
    for spec, given in ((NET, weights), (APART, _spread(weights))):
        spec = replace(spec, rows=tuple(row if row.kind != "dropout" else replace(
            row, options={"rate": 0.0}) for row in spec.rows))  # fmt: skip
        model = MatConvNetModel(spec)
        model.assign(given)
        model.compile(keras.optimizers.SGD(rate), keras.losses.MeanSquaredError())
        target = {name: np.ones_like(y) for name, y in _numpy(model(_feed())).items()}
        model.train_on_batch(_feed(), target)
        after.append(_numpy(model.canonical_weights))
    shared, apart = after
    for name, start in weights.items():
        copies = [
            there.name
            for row, copy in zip(NET.rows, APART.rows, strict=True)
            for here, there in zip(row.weights, copy.weights, strict=True)
            if here.name == name
        ]
        steps = np.sum([apart[copy] - start for copy in copies], axis=0)
        np.testing.assert_allclose(shared[name] - start, steps, rtol=1e-3, atol=1e-5, err_msg=name)
    assert np.abs(shared["rec:1/kernel"] - weights["rec:1/kernel"]).max() > 1e-3
    for name in ("norm:1/mean", "norm:1/sigma"):
        np.testing.assert_array_equal(shared[name], weights[name])


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_holds_a_shared_weight_once(net: MatConvNetModel, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (net.save_weights if "weights" in name else net.save)(path)
    roles = {layer.name: tuple(v.name for v in layer.weights) for layer in net.layers}
    with opened(path, roles if "weights" in name else None) as file:
        shapes = {entry: stored.shape for entry, stored in file.entries.items()}
        assert shapes == NET.weight_shapes
        assert file.spec == (None if "weights" in name else NET)
        for entry, array in _draw(NET).items():
            np.testing.assert_array_equal(file.entries[entry], array)
    again = MatConvNetModel(NET)
    again.load_weights(path)
    _equal(again(_feed()), net(_feed()))
    if "weights" not in name:
        loaded = keras.saving.load_model(path)  # no custom_objects, safe_mode on
        assert type(loaded) is MatConvNetModel
        assert loaded.spec == NET
        assert [layer.name for layer in loaded.layers if layer.weights] == [
            layer.name for layer in net.layers if layer.weights
        ]
        _equal(loaded(_feed()), net(_feed()))


def test_only_the_weights_in_a_weights_file_count(net: MatConvNetModel, tmp_path: Path) -> None:
    net.save_weights(tmp_path / "model.weights.h5")
    sizes: list[int] = []
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(
            lambda _, found: sizes.append(found.size) if isinstance(found, h5py.Dataset) else None
        )
    assert sum(sizes) == net.count_params()


CHILD = """
import json, sys
import numpy as np
import keras
import netvlad_keras

feed = dict(np.load(sys.argv[1]))
found = {}
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    assert type(model).__name__ == "MatConvNetModel"
    found[path] = {
        name: keras.ops.convert_to_numpy(y).tobytes().hex() for name, y in model(feed).items()
    }
print(json.dumps(found))
"""


def test_a_fresh_process_gives_the_same_to_the_bit(net: MatConvNetModel, tmp_path: Path) -> None:
    feed: dict[str, Any] = _feed()
    np.savez(tmp_path / "feed.npz", **feed)
    bits = {name: y.tobytes().hex() for name, y in _numpy(net(_feed())).items()}
    paths = [str(tmp_path / name) for name in FORMATS if "weights" not in name]
    for path in paths:
        net.save(path)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "feed.npz"), *paths],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(paths, bits)


def test_a_net_of_hundreds_of_layers_goes_through_hdf5(tmp_path: Path) -> None:
    rows = [_conv("block:1", "LR")]
    for index in range(2, 300):
        rows.append(_conv(f"block:{index}", rows[-1].name, owner="block:1", dilate=(1, 1)))
    spec = NetSpec((("LR", 2),), tuple(rows), ((rows[-1].name, "y"),))
    model = MatConvNetModel(spec)
    assert len(model.weights) == 2
    model.save(tmp_path / "model.h5")  # the spec is more than the 64 KB of an HDF5 header
    with opened(tmp_path / "model.h5") as file:
        assert file.spec == spec
        assert set(file.entries) == {"block:1/kernel", "block:1/bias"}


# --- files of others ---


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_weights_of_another_net_of_the_same_shapes_are_refused(tmp_path: Path, name: str) -> None:
    slanted = replace(NET.rows[1], options={"leak": 0.1})
    other = replace(NET, rows=(NET.rows[0], slanted, *NET.rows[2:]))
    _built(other, seed=5).save(tmp_path / name)
    model = _built()
    with pytest.raises(WeightsError, match="another net, which differs in rows"):
        model.load_weights(tmp_path / name)
    _equal(model.canonical_weights, _draw(NET))
    _built(replace(NET, name="other"), seed=5).save(tmp_path / name)  # no other net
    model.load_weights(tmp_path / name)
    _equal(model.canonical_weights, _draw(NET, 5))


@pytest.mark.parametrize("name", FORMATS)
def test_weights_that_are_not_the_net_s_are_named(tmp_path: Path, name: str) -> None:
    other = MatConvNetModel(NetSpec((("x", 2),), (_conv("rec:1", "x"), _conv("z", "rec:1")),
                                    (("z", "y"),)))  # fmt: skip
    (other.save_weights if "weights" in name else other.save)(tmp_path / name)
    model = _built()
    with pytest.raises(WeightsError) as caught:
        model.load_weights(tmp_path / name)
    assert caught.value.unexpected == ("z/kernel", "z/bias")
    assert caught.value.missing == tuple(n for n in NET.weight_shapes if "rec:1" not in n)
    _equal(model.canonical_weights, _draw(NET))


def test_a_netvlad_s_file_is_none_of_any_net_s(tmp_path: Path, specs: Any) -> None:
    NetVLADModel(specs["vgg-max"]).save(tmp_path / "model.keras")
    with pytest.raises(WeightsError, match="not this model's"):
        _built().load_weights(tmp_path / "model.keras")


def test_assign_names_every_misfit() -> None:
    model = _built()
    arrays = {**_draw(NET), "rec:2/kernel": np.zeros((3, 3, 2, 2)), "own/bias": np.zeros(3)}
    del arrays["rec:1/bias"]
    with pytest.raises(WeightsError) as caught:
        model.assign(arrays)
    assert (caught.value.missing, caught.value.unexpected) == (("rec:1/bias",), ("rec:2/kernel",))
    assert caught.value.misshapen == ("own/bias is (3,), the model has (2,)",)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_what_was_frozen_stays_frozen(tmp_path: Path, name: str) -> None:
    model = MatConvNetModel(NET, name="eyes")
    model.get_layer("own").trainable = False
    model.save(tmp_path / name)
    again = keras.saving.load_model(tmp_path / name)
    frozen = [layer.name for layer in again.layers if not layer.trainable]
    assert (again.name, frozen) == ("eyes", ["own"])


def test_zeros_and_the_initialisers() -> None:
    zeros = _numpy(MatConvNetModel(NET, zeros=True).canonical_weights)
    assert not any(array.any() for array in zeros.values())
    started = _numpy(MatConvNetModel(NET).canonical_weights)
    assert started["rec:1/kernel"].std() > 0.1
    np.testing.assert_array_equal(started["norm:1/sigma"], 1)


# --- custom kinds ---


@pytest.fixture
def custom() -> Iterator[None]:
    """Kinds as they were, once a test has registered its own."""
    kinds, reads = dict(KINDS), dict(READS)
    yield
    KINDS.clear()
    KINDS.update(kinds)
    READS.update(reads)


class Halved(keras.layers.Layer):  # type: ignore[misc, name-defined]
    """A weight per channel, under a name of its own, and a second input."""

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[0][-1],)
        self.first = self.add_weight(name="gain", shape=shape, initializer="ones")
        self.second = self.add_weight(shape=shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return inputs[0][:, ::2, ::2] * self.first + self.second + inputs[1]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[1]


def _halved() -> NetSpec:
    weights = tuple(Weight(f"weight_{n}", f"half:1/weight_{n}", (2,)) for n in (0, 1))
    again = NetLayer("half:2", "Halved", ("half:1", "late"), weights)
    rows = (NetLayer("half:1", "Halved", ("x", "side"), weights), _row("late", "pool", "side",
            pool=(2, 2), stride=(2, 2), pad=(0, 1, 0, 1)), again)  # fmt: skip
    return NetSpec((("x", 2), ("side", 2)), rows, (("half:2", "y"),))


@pytest.mark.usefixtures("custom")
@pytest.mark.parametrize("name", FORMATS)
def test_a_custom_kind_s_weights_go_by_their_order(tmp_path: Path, name: str) -> None:
    register("Halved", lambda row: Halved())
    model = _built(_halved())
    w = _draw(_halved())
    x = np.random.default_rng(0).random((1, 8, 6, 2)).astype("float32")
    side = np.random.default_rng(1).random((1, 4, 3, 2)).astype("float32")
    late = np.pad(side, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=-np.inf)
    late = late.reshape(1, 2, 2, 2, 2, 2).max(axis=(2, 4))
    y = x[:, ::2, ::2] * w["half:1/weight_0"] + w["half:1/weight_1"] + side
    y = y[:, ::2, ::2] * w["half:1/weight_0"] + w["half:1/weight_1"] + late
    np.testing.assert_allclose(_numpy(model([x, side]))["y"], y, rtol=1e-5, atol=1e-5)
    (model.save_weights if "weights" in name else model.save)(tmp_path / name)
    again = MatConvNetModel(_halved())
    again.load_weights(tmp_path / name)
    _equal(again([x, side]), model([x, side]))
    if "weights" not in name:
        _equal(keras.saving.load_model(tmp_path / name)([x, side]), model([x, side]))
        del KINDS["Halved"]
        with pytest.raises(NetError, match="half:1 is of the kind Halved"):
            keras.saving.load_model(tmp_path / name)


@pytest.mark.usefixtures("custom")
def test_a_custom_kind_may_take_a_known_one_s_place() -> None:
    register("relu", lambda row: keras.layers.ReLU(max_value=row.options["top"]))
    rows = (_row("a", "relu", "x", top=2.0),)
    model = MatConvNetModel(NetSpec((("x", 1),), rows, (("a", "y"),)))
    assert _numpy(model(np.full((1, 1, 1, 1), 5.0)))["y"].item() == 2


@pytest.mark.usefixtures("custom")
def test_a_custom_layer_that_makes_other_weights_is_refused() -> None:
    register("Halved", lambda row: keras.layers.PReLU())
    weights = (Weight("weight_0", "a/weight_0", (3,)),)
    row = NetLayer("a", "Halved", ("x",), weights)
    with pytest.raises(NetError, match=r"a \(Halved\): "):
        MatConvNetModel(NetSpec((("x", 2),), (row,), (("a", "y"),)))
    row = NetLayer("a", "Halved", ("x",))
    register("Halved", lambda row: keras.layers.Dense(2))
    with pytest.raises(NetError, match="makes a weight kernel, the net has none"):
        MatConvNetModel(NetSpec((("x", 2),), (row,), (("a", "y"),)))
