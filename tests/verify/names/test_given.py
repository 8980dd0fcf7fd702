"""Tables of names from a user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import MappingError, ReadError
from verify.names.canonical import Place, canonical_layer, canonical_weight, layer_axes, weight_axes
from verify.names.given import check, read
from verify.names.weights import KERAS, ONNX, by_name


def test_a_table_gives_names_axes_and_signs(tmp_path: Path) -> None:
    rows = {
        "conv1_1": "trunk/conv:0",
        "vlad:core": {"tensor": "vlad:0", "axes": "NKD"},
        "vlad:core/centers": {"tensor": "c", "axes": "KD", "sign": -1},
    }
    (tmp_path / "names.json").write_text(json.dumps(rows))
    assert read(tmp_path / "names.json") == {
        "conv1_1": Place("trunk/conv:0"),
        "vlad:core": Place("vlad:0", "NKD"),
        "vlad:core/centers": Place("c", "KD", -1),
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read as JSON"),
        ("[]", "is not a table of names"),
        ("{}", "is not a table of names"),
        ({"conv1_1": 3}, "conv1_1 is 3"),
        ({"conv1_1": {"axes": "NCHW"}}, 'conv1_1 is {"axes": "NCHW"}'),
        ({"conv1_1": {"tensor": "a", "layout": "NCHW"}}, "conv1_1 is"),
        ({"conv1_1": {"tensor": "a", "axes": 4}}, "conv1_1 is"),
        ({"conv1_1": {"tensor": "a", "sign": 2}}, "conv1_1 is"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: Any, words: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ReadError, match=words):
        read(tmp_path / "names.json")
    with pytest.raises(ReadError, match="cannot be read"):
        read(tmp_path / "absent.json")


def test_all_missing_names_are_named() -> None:
    names = {"a": Place("there"), "b": Place("ther"), "c": Place("elsewhere/x")}
    with pytest.raises(MappingError) as caught:
        check(names, ["there", "deep/elsewhere/x"], Path("net"))
    assert caught.value.missing == (
        "b (ther in net; it has there)",
        "c (elsewhere/x in net; it has deep/elsewhere/x)",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv1_1", "conv1_1"),
        ("vlad.3Acore", "vlad:core"),
        ("vlad_intranorm", "vlad:intranorm"),
        ("max.3Acore", "max:core"),
        ("caf.C3.A9", "café"),
        ("block1.conv1", "block1.conv1"),
    ],
)
def test_names_are_turned_back_to_the_sources(name: str, expected: str) -> None:
    assert canonical_layer(name) == expected
    assert canonical_weight(f"{name}/kernel") == f"{expected}/kernel"
    assert canonical_weight("kernel") == "kernel"


def test_axes_of_layers_and_weights() -> None:
    assert [layer_axes(name) for name in ("conv1_1", "preL2", "vlad:core", "WPCA")] == [
        *("NHWC", "NHWC", "N1KD", "ND")
    ]
    assert [weight_axes(name) for name in ("conv1_1/kernel", "WPCA/kernel", "a/gamma")] == [
        *("HWIO", "IO", "")
    ]


def test_weights_find_their_names_and_axes() -> None:
    stored = {
        "conv1/kernel": np.zeros((5, 4, 3, 2)),
        "vlad.3Acore/centers": np.zeros((1, 8, 16)),
        "c": np.ones((8, 16)),
        "WPCA/kernel": np.zeros((2, 3, 4)),
        "net/beta": np.zeros((2, 3)),
    }
    names = {"vlad:core/assignment": Place("c", "KD", -1)}
    found = by_name(stored, ONNX, names)
    assert {name: array.shape for name, array in found.items()} == {
        "conv1/kernel": (3, 2, 4, 5),
        "vlad:core/centers": (16, 8),
        "vlad:core/assignment": (16, 8),
        "WPCA/kernel": (2, 3, 4),
        "net/beta": (2, 3),
    }
    assert (found["vlad:core/assignment"] == -1).all()


def test_two_tensors_of_one_name_are_refused() -> None:
    stored = {"vlad.3Acore/bias": np.ones(2), "vlad_core/bias": np.ones(2)}
    with pytest.raises(MappingError) as caught:
        by_name(stored, KERAS, {})
    assert caught.value.misfits == {
        "vlad:core/bias": "both vlad.3Acore/bias and vlad_core/bias are it"
    }
