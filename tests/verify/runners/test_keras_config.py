"""What a Keras configuration may name. No Keras here: it would import what is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from converters.errors import ReadError
from verify.runners.keras_config import check

FILE = Path("model.keras")


def layer(name: str, module: str | None = "keras.layers", **facts: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {}, "registered_name": None, **facts}


def model(*layers: Any, **facts: Any) -> str:
    config = {"name": "net", "layers": list(layers)}
    return json.dumps({"module": "keras", "class_name": "Functional", "config": config, **facts})


TENSOR = {"class_name": "__keras_tensor__", "config": {"shape": [1], "keras_history": ["a", 0, 0]}}


@pytest.mark.parametrize(
    "text",
    [
        model(),
        model(layer("Conv2D"), layer("ReLU", None), layer("BatchNormalization")),
        model(layer("Conv2D", config={"kernel_initializer": layer("Zeros", "keras.initializers")})),
        model(layer("Add", inbound_nodes=[{"args": [[TENSOR, TENSOR]], "kwargs": {}}])),
        model(layer("NetVLAD", "netvlad_keras.layers", registered_name="netvlad_keras>NetVLAD")),
        model({"class_name": "netvlad_keras>NetVLAD", "config": {}}),  # of an .h5
        model(layer("Functional", "keras.src.models.functional", registered_name="Functional")),
        model(compile_config={"loss": {"class_name": "function", "config": "mine"}}),
        json.dumps({"class_name": "NetVLADModel", "config": {"spec": {"trunk": []}}}),
    ],
)
def test_known_classes_pass(text: str) -> None:
    check(FILE, text)
    check(FILE, text.encode())


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        (model(layer("Lambda")), "Lambda (keras.layers)"),
        (model(layer("Lambda", None)), "Lambda"),
        (model(layer("TFSMLayer")), "TFSMLayer (keras.layers)"),
        (model(layer("TorchModuleWrapper")), "TorchModuleWrapper (keras.layers)"),
        (model(layer("Surprise", "evil.layers")), "Surprise (evil.layers)"),
        (model(layer("Conv2D", "evil.layers")), "Conv2D of evil.layers"),
        (model(layer("Conv2D", "os")), "Conv2D of os"),
        (model(layer("netvlad_keras>Conv2D", None)), "netvlad_keras>Conv2D"),
        (model(layer("netvlad_keras>NetVLAD", "os")), "NetVLAD of os"),
        (model(layer("Conv2D", registered_name="evil>Conv2D")), "registered as 'evil>Conv2D'"),
        (
            model(layer("NetVLAD", registered_name="evil>NetVLAD")),
            "NetVLAD, registered as 'evil>NetVLAD'",
        ),
        (
            model(layer("Activation", config={"activation": layer("__lambda__", None)})),
            "__lambda__",
        ),
        (
            model(layer("ReLU", config={"f": layer("function", "builtins", config="system")})),
            "function 'system' (builtins)",
        ),
        (model(layer("Conv2D", config=[[{"deep": [layer("Lambda")]}]])), "Lambda (keras.layers)"),
        (model(layer("ReLU", compile_config={"loss": "mse"})), "'ReLU' with a compile_config"),
        (model({"spec_name": "X", "config": {}}), "spec_name without a class"),
        (model(layer("__numpy__", None)), "__numpy__"),
        (model({"class_name": ["Conv2D"], "config": {}}), "class ['Conv2D']"),
        (json.dumps({"class_name": "Subclassed", "config": {}}), "Subclassed"),
        ("[" * 20 + "]" * 20, "is not a model's"),
        ('{"class_name": ', "is not JSON"),
        ('"Functional"', "is not a model's"),
    ],
)
def test_anything_else_is_refused_by_name(text: str, culprit: str) -> None:
    with pytest.raises(ReadError, match=re.escape(culprit)) as caught:
        check(FILE, text)
    assert caught.value.path == "model.keras"


def test_all_that_is_refused_is_named_at_once() -> None:
    with pytest.raises(ReadError, match=r"Lambda \(keras.layers\), TFSMLayer \(keras.layers\)"):
        check(FILE, model(layer("Lambda"), layer("Conv2D"), layer("TFSMLayer"), layer("Lambda")))


def test_depth_does_not_exhaust_the_walk() -> None:
    text = model("@").replace('"@"', '{"config": [' * 400 + "1" + "]}" * 400)
    check(FILE, text)
