"""The table of layers in the documentation is the code's."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.net import CARRIED
from converters.supported import SUPPORTED, markdown
from verify.operators import OPERATORS

ROOT = Path(__file__).resolve().parents[2]


def test_the_documentation_has_the_table() -> None:
    assert markdown() in (ROOT / "docs" / "matconvnet.md").read_text("utf-8")


def test_every_layer_in_it_is_carried_and_every_carried_one_is_in_it() -> None:
    assert set(SUPPORTED) == set(CARRIED)


def test_the_witness_knows_every_one() -> None:
    assert set(SUPPORTED) <= set(OPERATORS)


def test_keras_has_a_layer_for_every_one() -> None:
    pytest.importorskip("keras", reason="the Keras layers need Keras")
    from netvlad_keras.kinds import KINDS

    assert set(SUPPORTED) == set(KINDS)
