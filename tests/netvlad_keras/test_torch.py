"""The model on Keras's torch backend: the descriptor that TensorFlow gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

if os.environ.get("KERAS_BACKEND") != "torch":
    pytest.skip("for KERAS_BACKEND=torch: nox -s torch", allow_module_level=True)

import keras
import torch

from netvlad_keras import ImageShapeError, NetVLADModel, NetVLADSpec, WeightsError
from netvlad_keras.spec import keras_name

pytestmark = pytest.mark.torch

Array = NDArray[Any]

#: What TensorFlow 2.21 gives with the weights `drawn(spec)` for the two images of `images()`.
GOLDEN = {
    "vgg-vlad_preL2_intra_white": [
        [0.31334987, 0.69129735, -0.38681117, 0.085078709, 0.51677698],
        [0.39716336, 0.66281748, -0.3610599, 0.056436989, 0.51902312],
    ],
    "alex-vladv2_preL2_intra_white": [
        [0.093407109, 0.4514609, 0.33781397, -0.73574543, -0.36334348],
        [0.039336774, 0.45607048, 0.36570129, -0.68158144, -0.43836254],
    ],
    "alex-max_white": [
        [0.45024839, -0.79020327, -0.062832497, 0.38677451, 0.13896994],
        [0.49512216, -0.63350999, 0.23483258, 0.29410836, 0.46029657],
    ],
}
FORMATS = ("model.keras", "model.h5", "model.weights.h5")


def _distance(found: Array, expected: Any) -> float:
    return float(np.linalg.norm(found - np.asarray(expected), axis=1).max())


def test_this_is_torch() -> None:
    assert keras.backend.backend() == "torch"


@pytest.mark.parametrize("shape", [(1, 6, 40, 3), (1, 40, 6, 3), (2, 9, 9, 4), (9, 9, 3)], ids=str)
@pytest.mark.parametrize("door", ["__call__", "predict", "predict_on_batch"])
def test_what_is_no_image_is_refused(
    specs: dict[str, NetVLADSpec], shape: tuple[int, ...], door: str
) -> None:
    model = NetVLADModel(specs["alex-max_white"])
    with pytest.raises(ImageShapeError, match="at least 7×7 pixels"):
        getattr(model, door)(np.zeros(shape, np.float32))


def test_the_descriptor_of_every_method(
    case: str, specs: dict[str, NetVLADSpec], drawn: Any, images: Any, reference: Any
) -> None:
    spec = specs[case]
    model = NetVLADModel(spec, zeros=True)
    model.assign(drawn(spec))
    expected = reference.descriptor(spec, drawn(spec), images())
    for x in (images(), images().astype(np.float32)):
        assert _distance(model.predict(x, verbose=0), expected) < 2e-6


def _write_as_tensorflow_does(path: Path, arrays: dict[str, Array]) -> None:
    """Keras's `.weights.h5`: a group by class and number, the layer's name in an attribute."""
    numbers: dict[str, int] = {}
    kinds = {"input": "mean_subtraction", "vlad:core": "net_vlad", "WPCA": "dense"}
    with h5py.File(path, "w") as file:
        for layer in dict.fromkeys(name.partition("/")[0] for name in arrays):
            kind = kinds.get(layer, "convolution")
            number = numbers.get(kind, 0)
            numbers[kind] = number + 1
            group = file.create_group(f"layers/{kind}_{number}" if number else f"layers/{kind}")
            stored = group.create_group("vars")
            stored.attrs["name"] = keras_name(layer)
            for name in arrays:
                if name.startswith(f"{layer}/"):
                    stored[str(len(stored))] = arrays[name]


@pytest.mark.parametrize("case_", GOLDEN)
def test_a_file_of_tensorflow_s_gives_tensorflow_s_descriptor(
    specs: dict[str, NetVLADSpec], drawn: Any, images: Any, tmp_path: Path, case_: str
) -> None:
    spec = specs[case_]
    _write_as_tensorflow_does(tmp_path / "x.weights.h5", drawn(spec))
    model = NetVLADModel(spec)
    model.load_weights(tmp_path / "x.weights.h5")
    assert _distance(model.predict(images(), verbose=0), GOLDEN[case_]) < 2e-6


@pytest.mark.parametrize("case_", GOLDEN)
def test_every_format_is_read_back(
    specs: dict[str, NetVLADSpec], drawn: Any, images: Any, tmp_path: Path, case_: str
) -> None:
    spec = specs[case_]
    model = NetVLADModel(spec)
    model.assign(drawn(spec))
    expected = model.predict(images(), verbose=0)
    assert _distance(expected, GOLDEN[case_]) < 2e-6
    for name in FORMATS:
        path = tmp_path / name
        (model.save_weights if "weights" in name else model.save)(path)
        again = NetVLADModel(spec)
        again.load_weights(path)
        np.testing.assert_array_equal(again.predict(images(), verbose=0), expected)
        if "weights" not in name:
            loaded = keras.saving.load_model(path)
            np.testing.assert_array_equal(loaded.predict(images(), verbose=0), expected)


def test_weights_of_another_net_are_refused(
    specs: dict[str, NetVLADSpec], drawn: Any, tmp_path: Path
) -> None:
    _write_as_tensorflow_does(tmp_path / "x.weights.h5", drawn(specs["vgg-vlad_preL2"]))
    model = NetVLADModel(specs["vgg-vladv2_preL2_white"])
    before = model.get_weights()
    with pytest.raises(WeightsError) as caught:
        model.load_weights(tmp_path / "x.weights.h5")
    assert caught.value.missing == ("vlad:core/bias", "WPCA/kernel", "WPCA/bias")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_untrained_model_can_be_trained(
    case: str, specs: dict[str, NetVLADSpec], images: Any
) -> None:
    keras.utils.set_random_seed(3)
    model = NetVLADModel(specs[case])
    target = np.random.default_rng(0).standard_normal((2, specs[case].dimension))
    output = model(images(), training=True)
    torch.sum(torch.square(output - torch.tensor(target))).backward()
    for variable in model.trainable_variables:
        gradient = variable.value.grad
        assert gradient is not None, variable.path
        assert torch.isfinite(gradient).all(), variable.path
        assert gradient.abs().max() > 1e-9, variable.path
    assert model.canonical_weights["input/mean"].value.grad is None


def test_a_step_of_training_changes_every_weight_but_the_mean(
    specs: dict[str, NetVLADSpec], images: Any
) -> None:
    keras.utils.set_random_seed(5)
    model = NetVLADModel(specs["alex-vladv2_preL2_intra_white"])
    before = {name: v.numpy().copy() for name, v in model.canonical_weights.items()}
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(images(4), np.ones((4, 5)), verbose=0)
    same = {n for n, v in model.canonical_weights.items() if np.array_equal(v.numpy(), before[n])}
    assert same == {"input/mean"}


def test_a_step_of_training(specs: dict[str, NetVLADSpec], drawn: Any, images: Any) -> None:
    """`compile` and `fit` as the documentation has them: the loss falls, what is frozen stays."""
    from netvlad_keras.loss import TripletCount, TripletLoss
    from netvlad_keras.mining import Tuple
    from netvlad_keras.tuples import Tuples

    model = NetVLADModel(specs["vgg-vlad_preL2_intra_white"])
    model.assign(drawn(model.spec))
    query, far = images()
    shots = [query, far, np.clip(query.astype(np.float32) + 9, 0, 255).astype(np.uint8)]
    # The positive is the other scene, the negative nearly the query: the margin is violated.
    batches = Tuples([[Tuple(query=0, positive=1, negatives=(2,))]], shots, shots)
    model.get_layer("conv1_1").trainable = False
    before = {each.path: keras.ops.convert_to_numpy(each) for each in model.weights}
    model.compile(keras.optimizers.SGD(0.01), TripletLoss(), metrics=[TripletCount()])
    first, last = (
        model.fit(batches, shuffle=False, verbose=0).history["summed_loss"][0] for _ in range(2)
    )
    found = model.predict(np.stack(shots), verbose=0)
    assert 0 < last < first
    assert np.isfinite(found).all()
    after = {each.path: keras.ops.convert_to_numpy(each) for each in model.weights}
    moved = {path.split("/")[-2] for path in before if (before[path] != after[path]).any()}
    assert "conv1_1" not in moved
    assert {"conv2_1", "vlad_3Acore", "WPCA"} <= moved  # torch allows no dot in a path
