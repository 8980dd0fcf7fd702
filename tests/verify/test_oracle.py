"""The oracle: nets built here, and MatConvNet's own outputs for real ones."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat

from converters.checkpoint import MEAN, Array, Checkpoint, Layer, Origin
from converters.errors import ConversionError, LayerError
from converters.readers import matconvnet
from verify.operators import OPERATORS
from verify.oracle import execute, published_mean, replay, run

RANDOM = np.random.default_rng(9)


def net(*layers: Layer, **tensors: Array) -> Checkpoint:
    """A checkpoint; a tensor is named as in `Layer.params`."""
    return Checkpoint(tensors, layers, {}, Origin(Path("net.mat"), "matconvnet"))


def image(*shape: int) -> Array:
    return RANDOM.standard_normal(shape)


def small_netvlad() -> Checkpoint:
    """conv, VLAD of 3 clusters, whitening to 2: the shapes of the real thing."""
    l2 = {"param": (8, 1e-12, 1.0, 0.5)}
    checkpoint = net(
        Layer("conv1", "conv", ("input",), ("f", "b"), {"pad": (1, 1, 1, 1)}),
        Layer("preL2", "normalize", ("conv1",), (), l2),
        Layer("vlad:core", "layerVLAD", ("preL2",), ("a", "c")),
        Layer("vlad:intranorm", "normalize", ("vlad:core",), (), l2),
        Layer("postL2", "layerWholeL2Normalize", ("vlad:intranorm",)),
        Layer("WPCA", "conv", ("postL2",), ("w", "v")),
        Layer("finalL2", "layerWholeL2Normalize", ("WPCA",)),
        f=image(3, 3, 3, 4),
        b=image(4),
        a=image(1, 1, 4, 3),
        c=image(1, 1, 4, 3),
        w=image(1, 1, 12, 2),
        v=image(2),
    )
    mean = np.stack([np.full((2, 2), value) for value in (10.0, 20.0, 30.0)], axis=-1)
    mean[1, 1] = 99.0  # only pixel (1,1) of MATLAB, (0,0) here, counts
    return Checkpoint({**checkpoint.tensors, MEAN: mean}, checkpoint.layers, {}, checkpoint.origin)


def total(name: str, *inputs: str) -> Layer:
    return Layer(name, "sum", inputs)


# ---------------------------------------------------------------- failure paths


def test_a_source_without_layers_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"net\.mat: holds weights but no layers"):
        execute(net(kernel=image(3, 3, 3, 4)), image(4, 4, 3))


def test_all_faults_are_told_before_anything_runs() -> None:
    checkpoint = net(
        Layer("one", "mine", ("input",)),
        Layer("two", "conv", ("one",), ("f",)),
        Layer("three", "conv", ("two",), ()),
        Layer("four", "pool", ("three",)),
        Layer("five", "sum", ("four", "six")),
        Layer("six", "relu", ("five", "four")),
        Layer("six", "relu", ("six",)),
        Layer("seven", "relu", ()),
        Layer("fine", "relu", ("six",)),
    )
    with pytest.raises(LayerError) as caught:
        execute(checkpoint, image(4, 4, 3))
    assert caught.value.faults == {
        "one": "the oracle does not know its type 'mine'",
        "two": "its weights f are not there",
        "three": "conv with 1 inputs and 0 weights: missing a required argument: 'filters'",
        "four": "pool with 1 inputs and 0 weights: missing a required argument: 'pool'",
        "five": "reads six before it is computed",
        "six": "there are two layers of this name",
        "seven": "reads nothing",
    }
    assert caught.value.path == "net.mat"


def test_a_layer_that_its_input_does_not_fit_is_named() -> None:
    checkpoint = net(
        total("copy", "input"), Layer("conv1", "conv", ("copy",), ("f",)), f=image(3, 3, 2, 4)
    )
    steps = execute(checkpoint, image(4, 4, 3))
    assert [next(steps)[0], next(steps)[0]] == ["input", "copy"]
    with pytest.raises(LayerError, match="conv1: 4 filters of depth 2 cannot share 3 channels"):
        next(steps)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4)),
        np.zeros((1, 1, 4, 4, 3)),
        np.zeros((0, 4, 3)),
        np.zeros((4, 4, 3), complex),
        np.array([[["red"]]]),
    ],
    ids=["2 axes", "5 axes", "empty", "complex", "text"],
)
def test_what_is_no_image_is_refused(wrong: Array) -> None:
    with pytest.raises(ConversionError, match="An image is H×W×C or N×H×W×C"):
        execute(net(total("copy", "input")), wrong)


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 4, 4), (2, 4, 4, 1)])
def test_a_mean_of_three_channels_does_not_stretch_an_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConversionError, match=re.escape("a mean of shape (3,) does not fit")):
        execute(small_netvlad(), image(*shape))


@pytest.mark.parametrize("given", [{}, {"a": image(2, 2, 1)}, {"b": image(2, 2, 1)}])
def test_several_inputs_must_all_be_given(given: Mapping[str, Array]) -> None:
    with pytest.raises(ConversionError, match="reads a, b, given: "):
        execute(net(total("both", "a", "b")), given)


def test_one_image_for_several_inputs_is_refused() -> None:
    with pytest.raises(ConversionError, match="reads 2 inputs: a, b"):
        execute(net(total("both", "a", "b")), image(2, 2, 1))


def test_replay_refuses_what_it_cannot_place() -> None:
    checkpoint = net(total("copy", "input"), Layer("odd", "mine", ("copy",)))
    with pytest.raises(ConversionError, match="there is no layer 'cpy'"):
        replay(checkpoint, "cpy", [image(1, 2, 2, 1)])
    with pytest.raises(LayerError, match="copy: reads 1 inputs, 2 were given"):
        replay(checkpoint, "copy", [image(1, 2, 2, 1)] * 2)
    with pytest.raises(LayerError, match="odd: the oracle does not know its type 'mine'"):
        replay(checkpoint, "odd", [image(1, 2, 2, 1)])


# ---------------------------------------------------------------- order, shapes, memory


def test_netvlad_gives_its_shapes_in_order() -> None:
    shapes = [
        (name, y.shape) for name, y in execute(small_netvlad(), image(2, 5, 6, 3), np.float64)
    ]
    assert shapes == [
        ("input", (2, 5, 6, 3)),
        ("conv1", (2, 5, 6, 4)),
        ("preL2", (2, 5, 6, 4)),
        ("vlad:core", (2, 1, 3, 4)),
        ("vlad:intranorm", (2, 1, 3, 4)),
        ("postL2", (2, 12)),
        ("WPCA", (2, 2)),
        ("finalL2", (2, 2)),
    ]


@pytest.mark.parametrize("kind", ["layerTotalMaxPool", "layerTotalAvgPool"])
def test_total_pooling_gives_a_vector_and_a_plain_1x1_map_does_not(kind: str) -> None:
    checkpoint = net(
        Layer("max:core", kind, ("input",)),
        Layer("whole", "pool", ("input",), (), {"pool": (4, 5), "method": "avg"}),
    )
    outputs = run(checkpoint, image(2, 4, 5, 3))
    assert outputs["max:core"].shape == (2, 3)
    assert outputs["whole"].shape == (2, 1, 1, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_and_batch(dtype: type[np.float32] | type[np.float64]) -> None:
    checkpoint = small_netvlad()
    pictures = RANDOM.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
    together = run(checkpoint, pictures, dtype)
    for index, picture in enumerate(pictures):
        for name, y in execute(checkpoint, picture, dtype):
            assert y.dtype == dtype
            np.testing.assert_allclose(y[0], together[name][index], atol=1e-4)


def test_layers_read_the_layers_that_they_name() -> None:
    """A small DagNN: (x + relu(x)) beside -2·relu(x)."""
    checkpoint = net(
        Layer("relu", "relu", ("data",)),
        total("residual", "data", "relu"),
        Layer("minus", "conv", ("relu",), ("f",)),
        Layer("out", "concat", ("residual", "minus"), (), {"dim": 3}),
        f=np.full((1, 1, 1, 1), -2.0),
    )
    outputs = run(checkpoint, np.array([3.0, -1.0]).reshape(1, 2, 1))
    assert list(outputs) == ["data", "relu", "residual", "minus", "out"]
    assert outputs["out"].tolist() == [[[[6.0, -6.0], [-1.0, 0.0]]]]


def test_several_inputs_by_name() -> None:
    outputs = run(net(total("both", "a", "b")), {"b": np.ones((2, 2, 1)), "a": np.zeros((2, 2, 1))})
    assert list(outputs) == ["a", "b", "both"]
    np.testing.assert_array_equal(outputs["both"], np.ones((1, 2, 2, 1)))


def test_a_custom_kind_joins_by_its_name() -> None:
    def scaled(x: Array, factor: Array, *, power: int = 1) -> Array:
        y: Array = x * factor**power
        return y

    checkpoint = net(Layer("mine", "Scaled", ("input",), ("k",), {"power": 2}), k=np.array([3.0]))
    outputs = run(checkpoint, np.ones((1, 1, 1)), operators={**OPERATORS, "Scaled": scaled})
    assert outputs["mine"].item() == 9.0


def test_what_no_later_layer_reads_is_freed() -> None:
    """`a` is read by `b` and `d`, so it stays until `d` has run; `b` only until `c` has."""
    checkpoint = net(
        total("a", "input", "input"),
        total("b", "a", "a"),
        total("c", "b", "b"),
        total("d", "c", "a"),
        total("e", "d", "d"),
    )
    seen: dict[str, weakref.ref[Array]] = {}
    alive: dict[str, set[str]] = {}
    steps: Iterator[tuple[str, Array]] = execute(checkpoint, image(2, 2, 1))
    for name, y in steps:
        seen[name] = weakref.ref(y)
        alive[name] = {other for other, array in seen.items() if array() is not None}
        del y
    assert alive == {
        "input": {"input"},
        "a": {"a"},
        "b": {"a", "b"},
        "c": {"a", "c"},
        "d": {"d"},
        "e": {"e"},
    }


# ---------------------------------------------------------------- mean


def test_netvlad_subtracts_pixel_1_1_of_its_average_image() -> None:
    checkpoint = small_netvlad()
    name, x = next(execute(checkpoint, np.full((4, 4, 3), 100, np.uint8)))
    assert (name, x.shape) == ("input", (1, 4, 4, 3))
    assert np.unique(x.reshape(-1, 3), axis=0).tolist() == [[90.0, 80.0, 70.0]]


def test_any_other_net_leaves_its_image_to_the_caller() -> None:
    checkpoint = net(total("copy", "input"), **{MEAN: np.ones((1, 1, 3))})
    assert published_mean(checkpoint) is None
    np.testing.assert_array_equal(
        next(execute(checkpoint, np.full((2, 2, 3), 100, np.uint8)))[1], np.full((1, 2, 2, 3), 100)
    )


def test_netvlad_without_a_mean_subtracts_nothing() -> None:
    checkpoint = net(Layer("max:core", "layerTotalMaxPool", ("input",)))
    assert published_mean(checkpoint) is None
    assert run(checkpoint, np.full((2, 2, 1), 7.0))["input"].max() == 7.0


@pytest.mark.parametrize(
    "mean",
    [5.0, [5.0, 5.0, 5.0], np.full((1, 1, 3), 5.0), np.full((2, 4, 3), 5.0)],
    ids=["number", "channels", "pixel", "image"],
)
def test_a_mean_that_is_given_stands(mean: Any) -> None:
    for checkpoint in (small_netvlad(), net(total("copy", "input"))):
        x = next(execute(checkpoint, np.full((2, 4, 3), 100, np.uint8), mean=mean))[1]
        np.testing.assert_array_equal(x, np.full((1, 2, 4, 3), 95.0))


# ---------------------------------------------------------------- replay


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_alone_does_what_it_does_in_the_net(
    dtype: type[np.float32] | type[np.float64],
) -> None:
    checkpoint = small_netvlad()
    outputs = run(checkpoint, image(2, 5, 6, 3), dtype)
    for layer in checkpoint.layers:
        y = replay(checkpoint, layer.name, [outputs[name] for name in layer.inputs], dtype)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, outputs[layer.name])


def test_a_replay_in_float32_shows_what_rounding_alone_costs() -> None:
    checkpoint = small_netvlad()
    outputs = run(checkpoint, 100 * image(2, 5, 6, 3))
    y = replay(checkpoint, "conv1", [outputs["input"]], np.float32)
    error = np.abs(y - outputs["conv1"]).max() / np.abs(outputs["conv1"]).max()
    assert 1e-9 < error < 1e-6


# ---------------------------------------------------------------- MatConvNet's own outputs


def as_batch(matlab: Array) -> Array:
    """H×W×C×N (trailing axes dropped) as N×H×W×C."""
    return matlab.reshape(matlab.shape + (1,) * (4 - matlab.ndim)).transpose(3, 0, 1, 2)


def goldens(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return {key.partition("|")[2]: archive[key] for key in archive}


def relative_errors(outputs: Iterator[tuple[str, Array]], golden: dict[str, Array]) -> Any:
    """layer -> max |difference| / max |golden|; every golden must find its layer."""
    errors = {}
    for name, y in outputs:
        if name in golden:
            expected = as_batch(golden[name]).reshape(y.shape)
            errors[name] = float(np.abs(y - expected).max() / np.abs(expected).max())
    assert list(errors) == list(golden)
    return errors


#: source, MatConvNet's outputs, tolerance. The goldens are float32: 18 convolutions deep in DnCNN
#: NumPy's own float32 is 1.0e-6 away from the oracle too.
NETS = [
    ("fixtures/vgg_struct.mat", "fixtures/vgg_small.golden.npz", 1e-6),
    ("fixtures/vgg_mcosdef_fw4_v73.mat", "fixtures/vgg_small.golden.npz", 1e-6),
    ("fixtures/caffe_struct.mat", "fixtures/caffe_small.golden.npz", 1e-6),
    ("matconvnet/DCFNet.mat", "matconvnet/DCFNet.golden.npz", 1e-6),
    ("matconvnet/DnCNN_sigma25.mat", "matconvnet/DnCNN_sigma25.golden.npz", 1.5e-6),
    ("matconvnet/DnCNN_sigma25_Bnorm.mat", "matconvnet/DnCNN_sigma25_Bnorm.golden.npz", 1.5e-6),
    ("matconvnet/LapSRN_x2.mat", "matconvnet/LapSRN_x2.golden.npz", 1e-6),
]


def read_net(path: Path) -> Checkpoint:
    if any(word in path.stem for word in ("mcos", "classes", "layerTotal")):
        pytest.importorskip("matio", reason="mat-io decodes class objects")
    return matconvnet.read(path)


@pytest.mark.parametrize(("source", "golden", "tolerance"), NETS)
def test_matconvnet_agrees(source: str, golden: str, tolerance: float, shared_data: Path) -> None:
    expected = goldens(shared_data / golden)
    x = as_batch(next(iter(expected.values())))
    errors = relative_errors(execute(read_net(shared_data / source), x, mean=0), expected)
    assert max(errors.values()) <= tolerance, errors


@pytest.mark.parametrize(("source", "golden"), [row[:2] for row in NETS])
def test_each_layer_agrees_on_matconvnets_own_input(
    source: str, golden: str, shared_data: Path
) -> None:
    """Nothing is inherited here: the input of a layer is what MatConvNet fed it."""
    expected = {name: as_batch(y) for name, y in goldens(shared_data / golden).items()}
    checkpoint = read_net(shared_data / source)
    feeds = expected | {"input": next(iter(expected.values()))}
    errors = {}
    for layer in checkpoint.layers:
        if layer.name in expected and all(name in feeds for name in layer.inputs):
            y = replay(checkpoint, layer.name, [feeds[name] for name in layer.inputs])
            reference = expected[layer.name].reshape(y.shape)
            errors[layer.name] = np.abs(y - reference).max() / np.abs(reference).max()
    assert len(errors) >= len(expected) / 2
    assert max(errors.values()) <= 1e-6, errors


def test_netvlad_with_real_weights_agrees(shared_data: Path) -> None:
    """Behind the sharp softmax (alpha is about 240) MatConvNet's float32 is off by some 1e-5."""
    folder = shared_data / "netvlad"
    expected = goldens(folder / "matconvnet_layers_query_96x128.npz")
    picture = np.load(folder / "image_query_96x128.npy", allow_pickle=False)
    checkpoint = read_net(folder / "vd16_white64_classes_v7.mat")
    errors = relative_errors(execute(checkpoint, picture), expected)
    depth = list(errors).index("vlad:core")
    assert len(errors) == 36
    assert max(list(errors.values())[:depth]) <= 1e-6, errors
    assert max(list(errors.values())[depth:]) <= 3e-5, errors


def test_dcfnet_agrees_with_what_its_authors_recorded(shared_data: Path) -> None:
    folder = shared_data / "matconvnet"
    x, *recorded = loadmat(folder / "DCFNet_recorded_outputs.mat")["res"].ravel()
    names = ["conv1", "relu1", "conv2", "norm1"]
    checkpoint = matconvnet.read(folder / "DCFNet.mat")
    steps = (step for step in execute(checkpoint, x) if step[0] != "input")
    errors = relative_errors(steps, dict(zip(names, recorded, strict=True)))
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_total_pooling_of_a_class_object(kind: str, shared_data: Path) -> None:
    checkpoint = read_net(shared_data / f"fixtures/layerTotal{kind}Pool_fw3_v7.mat")
    x = image(1, 33, 37, 3)
    outputs = run(checkpoint, x)
    pooled = next(n for n in checkpoint.layers if n.kind == f"layerTotal{kind}Pool")
    before = outputs[pooled.inputs[0]]
    expected = before.max(axis=(1, 2)) if kind == "Max" else before.mean(axis=(1, 2))
    np.testing.assert_allclose(outputs[pooled.name], expected, rtol=1e-12)


@pytest.mark.parametrize("picture", ["db1", "db2"])
def test_descriptors_agree(picture: str, shared_data: Path) -> None:
    folder = shared_data / "netvlad"
    checkpoint = read_net(folder / "vd16_white64_classes_v7.mat")
    x = np.load(folder / f"image_{picture}_96x128.npy", allow_pickle=False)
    expected = np.load(
        folder / f"matconvnet_descriptor_{picture}_96x128.npy", allow_pickle=False
    ).ravel()
    *_, (name, y) = execute(checkpoint, x)
    assert name == "finalL2"
    assert np.linalg.norm(y[0] - expected) <= 1e-5


def test_the_stock_cpu_build_differs_by_its_approximate_power(shared_data: Path) -> None:
    """MatConvNet's CPU normalisation approximates powf (fast_pow); with powf it agrees.

    That is the distance that every port reports against MATLAB: a loose gate.
    """
    folder = shared_data / "netvlad"
    checkpoint = read_net(folder / "vd16_white64_classes_v7.mat")
    x = np.load(folder / "image_query_96x128.npy", allow_pickle=False)
    stock = np.load(folder / "matconvnet_stock_cpu_descriptor_query_96x128.npy", allow_pickle=False)
    *_, (_, y) = execute(checkpoint, x)
    assert 1e-3 < np.linalg.norm(y[0] - stock.ravel()) <= 5e-3
