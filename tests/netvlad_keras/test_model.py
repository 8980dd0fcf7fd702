"""`NetVLADModel` through its public door, on TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

tf = pytest.importorskip("tensorflow")

import keras  # noqa: E402

from netvlad_keras import ImageShapeError, NetVLADModel, NetVLADSpec  # noqa: E402
from netvlad_keras.trunks import CAFFE, MINI, VD16  # noqa: E402

Array = NDArray[Any]
WHITE = "vgg-vlad_preL2_intra_white"
FREE = tf.TensorSpec((None, None, None, 3), tf.float32)


@pytest.fixture(scope="module")
def white(specs: dict[str, NetVLADSpec], drawn: Any) -> NetVLADModel:
    """A small net with all the published layers, which no test may change."""
    model = NetVLADModel(specs[WHITE])
    model.assign(drawn(specs[WHITE]))
    return model


def _dataset(*batches: Array) -> Any:
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=FREE)


def _grey(height: int, width: int) -> Array:
    return np.full((1, height, width, 3), 90.0, np.float32)


# --- images that are none ---

SMALL = (6, 9)
DOORS: dict[str, Callable[[NetVLADModel, Array], Any]] = {
    "call": lambda model, x: model(x),
    "call list": lambda model, x: model([x]),
    "predict": lambda model, x: model.predict(x, verbose=0),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "dataset": lambda model, x: model.predict(
        tf.data.Dataset.from_tensors(x.astype(np.float32)), verbose=0
    ),
    "generator": lambda model, x: model.predict(((b,) for b in [x]), verbose=0),
}
TRAINED: dict[str, Callable[[NetVLADModel, Array], Any]] = {
    "fit": lambda model, x: model.fit(x, np.zeros((len(x), 5)), verbose=0),
    "evaluate": lambda model, x: model.evaluate(x, np.zeros((len(x), 5)), verbose=0),
    "train_on_batch": lambda model, x: model.train_on_batch(x, np.zeros((len(x), 5))),
    "test_on_batch": lambda model, x: model.test_on_batch(x, np.zeros((len(x), 5))),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 6, 40, 3),
        (1, 40, 6, 3),
        (1, 0, 40, 3),
        (2, 40, 40, 4),
        (2, 40, 40, 1),
        (2, 3, 40, 40),
        (40, 40, 3),
        (40, 40),
        (1, 1, 40, 40, 3),
    ],
    ids=str,
)
def test_what_is_no_image_is_refused_before_any_layer(
    alex: NetVLADModel, door: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ImageShapeError) as caught:
        DOORS[door](alex, np.zeros(shape, np.uint8))
    assert (caught.value.shape, caught.value.minimum) == (shape, 7)
    assert f"at least 7×7 pixels; got shape {list(shape)}" in str(caught.value)


@pytest.fixture(scope="module")
def alex(specs: dict[str, NetVLADSpec]) -> NetVLADModel:
    return NetVLADModel(specs["alex-max_white"])


@pytest.fixture(scope="module")
def relaxed(specs: dict[str, NetVLADSpec]) -> NetVLADModel:
    """A model whose traced functions have seen so many sizes that they know none any more."""
    model = NetVLADModel(specs["alex-avg_white"])
    model.compile("sgd", "mse")
    for size in (8, 9):
        x, y = _grey(size, size + 1), np.zeros((1, 5))
        model.predict(_dataset(x), verbose=0)
        model.fit(x, y, verbose=0)
        model.train_on_batch(x, y)
    return model


@pytest.mark.parametrize("door", [*DOORS, *TRAINED])
@pytest.mark.parametrize("size", [(6, 30), (30, 6), (2, 2)], ids=str)
def test_a_small_image_is_refused_after_other_sizes_too(
    relaxed: NetVLADModel, door: str, size: tuple[int, int]
) -> None:
    # else TensorFlow goes on with tensors that have no elements, and gives NaN
    with pytest.raises(ImageShapeError, match="at least 7×7 pixels"):
        {**DOORS, **TRAINED}[door](relaxed, _grey(*size))


def test_one_small_image_among_others_is_refused(relaxed: NetVLADModel) -> None:
    batches = [_grey(20, 20), _grey(7, 7), _grey(20, 6)]
    assert relaxed.predict(_dataset(*batches[:2]), verbose=0).shape == (2, 5)
    with pytest.raises(ImageShapeError, match=r"got shape \[1, 20, 6, 3\]"):
        relaxed.predict(_dataset(*batches), verbose=0)
    with pytest.raises(ImageShapeError, match=r"got shape \[1, 20, 6, 3\]"):
        relaxed.predict(((batch,) for batch in batches), verbose=0)


def test_several_steps_at_a_time_are_watched_one_by_one(specs: dict[str, NetVLADSpec]) -> None:
    model = NetVLADModel(specs["alex-avg_white"])
    model.compile(steps_per_execution=2)
    batches = [_grey(8, 8), _grey(9, 9), _grey(8, 9), _grey(8, 6)]
    assert model.predict(_dataset(*batches[:3]), verbose=0).shape == (3, 5)
    with pytest.raises(ImageShapeError, match=r"got shape \[1, 8, 6, 3\]"):
        model.predict(_dataset(*batches), verbose=0)


def test_a_known_size_is_refused_when_a_model_is_built_into_another(alex: NetVLADModel) -> None:
    with pytest.raises(ImageShapeError, match="got shape"):
        alex(keras.Input((6, 32, 3)))
    assert alex(keras.Input((None, 32, 3))).shape == (None, 5)


@pytest.mark.parametrize(("trunk", "size"), [(MINI, 16), (CAFFE, 23)])
def test_the_smallest_image_is_taken(trunk: Any, size: int) -> None:
    model = NetVLADModel(NetVLADSpec(trunk=trunk, clusters=2, whitening=3, name=""))
    assert np.linalg.norm(model(_grey(size, size))) == pytest.approx(1, abs=1e-5)
    for shape in [(size - 1, size), (size, size - 1)]:
        with pytest.raises(ImageShapeError, match=f"at least {size}×{size}"):
            model(_grey(*shape))


# --- what a descriptor is ---


def test_the_descriptor_of_every_method(
    case: str, specs: dict[str, NetVLADSpec], drawn: Any, images: Any, reference: Any
) -> None:
    spec = specs[case]
    arrays = drawn(spec)
    model = NetVLADModel(spec, zeros=True)
    model.assign(arrays)
    found = model.predict_on_batch(images())
    assert found.dtype == np.float32
    assert found.shape == (2, spec.dimension) == (2, model.output_shape[1])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    expected = reference.descriptor(spec, arrays, images())
    assert np.linalg.norm(found - expected, axis=1).max() < 3e-6
    # the spec's own account of the model
    assert {n: tuple(v.shape) for n, v in model.canonical_weights.items()} == spec.weight_shapes
    names = [layer.name.replace(".3A", ":") for layer in model.layers]
    assert names == ["image", "input", *(name for name, _ in spec.layers)]


@pytest.mark.parametrize(
    "name",
    [
        "vd16_pitts30k_conv5_3_vlad_preL2_intra_white",
        "caffe_tokyoTM_conv5_vlad_preL2_intra_white",
        "vd16_offtheshelf_conv5_3_max",
        "caffe_offtheshelf_conv5_max",
        "vd16_offtheshelf_conv5_3_pitts30k_train_vladv2_preL2_intra",
        "vd19_pitts30k_conv5_4_avg",
    ],
)
def test_a_published_net_has_the_weights_that_its_spec_says(name: str) -> None:
    spec = NetVLADSpec.from_name(name)
    model = NetVLADModel(spec.cropped(8) if spec.whitening else name, zeros=True)
    shapes = {n: tuple(v.shape) for n, v in model.canonical_weights.items()}
    assert shapes == model.spec.weight_shapes
    assert model.output_shape == (None, model.spec.dimension)


def test_bytes_and_floats_give_the_same_descriptor(white: NetVLADModel, images: Any) -> None:
    x = images()
    expected = white.predict(x.astype(np.float32), verbose=0)
    for same in (x, x.astype(np.float64), x.astype(np.int64), tf.constant(x)):
        np.testing.assert_array_equal(white.predict_on_batch(same), expected)
    np.testing.assert_array_equal(white.predict(x, verbose=0), expected)


def test_sizes_and_batches_may_change_from_call_to_call(
    white: NetVLADModel, drawn: Any, images: Any, reference: Any
) -> None:
    arrays = drawn(white.spec)
    for count, height, width in [(1, 2, 2), (3, 7, 4), (2, 5, 31), (1, 16, 3), (4, 7, 4)]:
        x = images(count, height, width)
        expected = reference.descriptor(white.spec, arrays, x)
        for found in (white.predict(x, verbose=0), np.asarray(white(x))):
            assert np.linalg.norm(found - expected, axis=1).max() < 5e-6


def test_an_empty_batch_has_no_descriptors(white: NetVLADModel) -> None:
    assert white(np.zeros((0, 8, 8, 3))).shape == (0, 5)


def test_a_dataset_of_many_sizes_is_one_array(white: NetVLADModel) -> None:
    batches = [_grey(4, 5), _grey(9, 2), _grey(3, 3)]
    found = white.predict(_dataset(*batches), verbose=0)
    expected = np.concatenate([white.predict_on_batch(batch) for batch in batches])
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture
def channels_first() -> Iterator[None]:
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@pytest.mark.usefixtures("channels_first")
def test_the_global_image_data_format_changes_nothing(
    specs: dict[str, NetVLADSpec], drawn: Any, images: Any, reference: Any
) -> None:
    spec = specs["alex-vladv2_preL2_intra_white"]
    model = NetVLADModel(spec)
    model.assign(drawn(spec))
    expected = reference.descriptor(spec, drawn(spec), images())
    assert np.linalg.norm(model.predict(images(), verbose=0) - expected, axis=1).max() < 3e-6


# --- the door itself ---


def test_the_lines_of_the_first_readme_work_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = NetVLADSpec().weight_shapes
    with h5py.File(tmp_path / "netvlad_weights.h5", "w") as file:
        _write_keras22(file, shapes)
    monkeypatch.chdir(tmp_path)
    batch = np.full((2, 16, 17, 3), 128, np.uint8)

    model = NetVLADModel()
    model.load_weights("netvlad_weights.h5")
    model.build()
    output = model.predict(batch)

    assert output.shape == (2, 4096)
    np.testing.assert_array_equal(output[:, 0], [1, 1])  # the file's bias: e_0
    assert model.count_params() == 149_002_051
    assert model.spec.name == "vd16_pitts30k_conv5_3_vlad_preL2_intra_white"


def _write_keras22(file: h5py.File, shapes: dict[str, tuple[int, ...]]) -> None:
    """Zeros in the first port's layout, without their 600 MB; WPCA's bias is e_0."""
    layers = ["lambda", *(f"conv2d_{i}" if i else "conv2d" for i in range(13)), "net_vlad"]
    file.attrs["layer_names"] = [name.encode() for name in [*layers, "conv2d_14"]]
    convolutions = [name.removesuffix("/bias") for name in shapes if name.startswith("conv")]
    kernels = [shapes[name] for name in convolutions if name.endswith("/kernel")]
    entries = {"lambda": [], "net_vlad": [(1, 1, 1, 512, 64), (1, 1, 512, 64)]}
    entries |= {
        name: [kernel, kernel[-1:]] for name, kernel in zip(layers[1:-1], kernels, strict=True)
    }
    entries["conv2d_14"] = [(1, 1, 32768, 4096), (4096,)]
    for layer, wanted in entries.items():
        group = file.create_group(layer)
        names = [f"{layer}/{index}:0" for index in range(len(wanted))]
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, shape in zip(names, wanted, strict=True):
            chunk = tuple(min(size, 1024) for size in shape)
            dataset = group.create_dataset(name, shape, "f4", chunks=chunk)
            dataset[(0,) * len(shape)] = float(shape == (4096,))


def test_build_needs_no_shape_and_takes_one(white: NetVLADModel) -> None:
    before = white.get_weights()
    white.build()
    white.build((None, 32, 32, 3))
    for old, new in zip(before, white.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_is_made_from_a_spec_a_name_or_nothing(specs: dict[str, NetVLADSpec]) -> None:
    name = "caffe_offtheshelf_conv5_max"
    assert NetVLADModel(name).spec == NetVLADSpec.from_name(name)
    assert NetVLADModel(specs[WHITE]).spec is specs[WHITE]
    with pytest.raises(ValueError, match="not a NetVLAD name"):
        NetVLADModel("netvlad", zeros=True)


def test_layers_are_found_by_the_source_s_names(white: NetVLADModel) -> None:
    assert white.get_layer("conv2_1").filters == 8
    assert type(white.get_layer("vlad.3Acore")).__name__ == "NetVLAD"
    with pytest.raises(ValueError, match="No such layer"):
        white.get_layer("conv9_9")
    assert list(white.canonical_weights)[:3] == ["input/mean", "conv1_1/kernel", "conv1_1/bias"]
    assert list(white.canonical_weights)[-4:] == [
        "vlad:core/assignment",
        "vlad:core/centers",
        "WPCA/kernel",
        "WPCA/bias",
    ]


def test_the_net_can_be_cut(white: NetVLADModel, images: Any) -> None:
    x = images(2, 9, 8)
    outputs = [white.get_layer(name).output for name in ("conv2_1", "preL2", "finalL2")]
    conv, prel2, final = keras.Model(white.inputs, outputs)([x])
    assert conv.shape == (2, 4, 4, 8)
    norms = np.linalg.norm(np.asarray(conv), axis=-1, keepdims=True)
    np.testing.assert_allclose(prel2, np.asarray(conv) / norms, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(final, white(x))


def test_a_model_goes_into_another_one(white: NetVLADModel, images: Any) -> None:
    image = keras.Input((None, None, 3), dtype="uint8")
    halved = keras.Model(image, keras.layers.Dense(2)(white(image)))
    assert halved.predict(images(), verbose=0).shape == (2, 2)
    assert len(halved.trainable_variables) == len(white.trainable_variables) + 2


# --- training ---


def test_an_untrained_model_can_be_trained(
    case: str, specs: dict[str, NetVLADSpec], images: Any
) -> None:
    keras.utils.set_random_seed(3)
    model = NetVLADModel(specs[case])
    assert "input/mean" not in {name for name, v in model.canonical_weights.items() if v.trainable}
    assert len(model.trainable_variables) == len(specs[case].weight_shapes) - 1
    target = np.random.default_rng(0).standard_normal((2, specs[case].dimension))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(images(), training=True) - target))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        # adding the same to every logit changes no softmax, adding anything to one does
        assert np.abs(gradient).max() > 1e-9, variable.path


def test_zeros_are_zeros_but_for_the_mean(specs: dict[str, NetVLADSpec]) -> None:
    weights = NetVLADModel(specs[WHITE], zeros=True).canonical_weights
    np.testing.assert_array_equal(weights["input/mean"], [120.0, 110.5, 100.25])
    assert not [n for n, v in weights.items() if n != "input/mean" and np.any(v.numpy())]


def test_the_deep_trunk_keeps_its_scale(images: Any) -> None:
    keras.utils.set_random_seed(1)
    model = NetVLADModel(
        NetVLADSpec(
            trunk=VD16,
            pooling="max",
            prel2=False,
            intranorm=False,
            clusters=0,
            whitening=0,
            name="",
        )
    )
    features = keras.Model(model.inputs, model.get_layer("conv5_3").output)
    scale = float(np.std(features([images(1, 32, 32)])))
    assert 1 < scale < 1e4  # images minus their mean have about 70


def test_a_step_of_training_changes_every_weight_but_the_mean(
    specs: dict[str, NetVLADSpec], images: Any
) -> None:
    keras.utils.set_random_seed(5)
    model = NetVLADModel(specs["alex-vladv2_preL2_intra_white"])
    before = {name: v.numpy() for name, v in model.canonical_weights.items()}
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    history = model.fit(images(4), np.ones((4, 5)), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    same = {n for n, v in model.canonical_weights.items() if np.array_equal(v, before[n])}
    assert same == {"input/mean"}


# --- assigning ---


def test_what_is_assigned_is_a_copy(specs: dict[str, NetVLADSpec], drawn: Any) -> None:
    model = NetVLADModel(specs[WHITE], zeros=True)
    arrays = drawn(specs[WHITE])
    model.assign(arrays)
    kept = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array[...] = 99
    for name, variable in model.canonical_weights.items():
        np.testing.assert_array_equal(variable, kept[name])


def test_arrays_of_any_order_and_precision_are_assigned(
    specs: dict[str, NetVLADSpec], drawn: Any
) -> None:
    model = NetVLADModel(specs[WHITE], zeros=True)
    arrays = drawn(specs[WHITE])
    model.assign({name: np.asfortranarray(array, np.float64) for name, array in arrays.items()})
    for name, variable in model.canonical_weights.items():
        np.testing.assert_array_equal(variable, arrays[name])


def test_the_mean_of_the_weights_takes_the_place_of_the_spec_s(
    specs: dict[str, NetVLADSpec], drawn: Any, images: Any, reference: Any
) -> None:
    spec = replace(specs[WHITE], mean=(1.0, 2.0, 3.0))
    model = NetVLADModel(spec)
    np.testing.assert_array_equal(model.canonical_weights["input/mean"], [1, 2, 3])
    arrays = drawn(specs[WHITE])  # whose mean is another one
    model.assign(arrays)
    expected = reference.descriptor(spec, arrays, images())
    assert np.linalg.norm(model.predict_on_batch(images()) - expected, axis=1).max() < 3e-6
