"""Errors travel between processes with all that they say."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from netvlad_keras import errors
from netvlad_keras.preprocess import ImageError

MADE: list[errors.NetVLADError] = [
    errors.NetVLADError("what"),
    errors.NetError(["layer a: one", "layer b: two"]),
    errors.InputError("image: is missing"),
    errors.InputShapeError("image", (2, 3), 3, (8, 9)),
    errors.ImageShapeError((1, 2), 16),
    errors.WeightsError("the file", ["a"], ["b"], ["c: (1,)"]),
    errors.RetrievalError("none", advice="do this"),
    errors.ModelFileError("net.onnx", "is none", advice="take another"),
    errors.DatasetError("set.csv", "line 2"),
    errors.DescriptorsError("a.npz", "is damaged", advice="again"),
    errors.CropError(7, "they have 5"),
    errors.EnvironmentFailure("no space left", advice="make room"),
    errors.TrainingError("no clusters", advice="initialise"),
    ImageError("a.jpg", "no image"),
]


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_can_be_pickled(error: errors.NetVLADError) -> None:
    found: Any = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error) != ""
    assert vars(found) == vars(error)
    assert isinstance(found, ValueError)


def test_all_of_them_are_tried() -> None:
    assert set(errors.__all__) <= {type(error).__name__ for error in MADE}
