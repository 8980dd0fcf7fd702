"""No false alarm: faithful artifacts of every format, on every input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from verify import regimes
from verify.formats import open_artifact
from verify.result import Column
from verify.witness import NEAR_ZERO, witness

#: netvlad_tf_open's graph has one trunk; its checkpoints have no other nets.
FORMATS = {
    "mini": ("keras", "h5", "weights", "savedmodel", "onnx", "mat", "tf_graph", "tf_variables"),
    "caffe": ("keras", "h5", "weights", "savedmodel", "onnx", "mat"),
    "maximum": ("keras", "h5", "weights", "savedmodel", "onnx", "mat"),
}


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """(maker, source) -> its artifacts opened, once."""
    made: dict[str, dict[str, Any]] = {}

    def open_all(maker: Any, source: str) -> dict[str, Any]:
        if source not in made:
            here = replace(maker, folder=tmp_path_factory.mktemp(source), source=source)
            made[source] = {f: open_artifact(here.make(f)) for f in FORMATS[source]}
        return made[source]

    return open_all


@pytest.mark.parametrize("regime", regimes.ALL)
@pytest.mark.parametrize("source", FORMATS)
def test_a_faithful_artifact_passes_on_every_input(
    source: str, regime: str, maker: Any, runners: Callable[..., dict[str, Any]], sources: Any
) -> None:
    contract = regimes.Contract(smallest=(23, 23) if source == "caffe" else (16, 16))
    images = regimes.regimes(contract, [regime])
    report = witness(sources[source], runners(maker, source), images)
    assert [c.verdict.sentence for c in report.columns if not c.verdict.passed] == []
    assert tuple(c.artifact for c in report.regimes[0].columns) == FORMATS[source]


def test_a_clamped_norm_is_a_named_row_in_a_tensorflow_1_graph_alone(
    maker: Any, runners: Callable[..., dict[str, Any]], sources: Any, small: Any
) -> None:
    report = witness(sources["mini"], runners(maker, "mini"), small)
    (near_zero,) = (regime for regime in report.regimes if regime.name == NEAR_ZERO)
    allowed = {
        (column.artifact, row.layer)
        for column in near_zero.columns
        for row in column.layers
        if row.own and np.isinf(row.own.limit)
    }
    assert allowed == {("tf_graph", "preL2"), ("tf_graph", "postL2"), ("tf_graph", "finalL2")}


def test_the_order_of_an_onnx_file_s_outputs_does_not_matter(
    maker: Any, judged: Callable[..., Any]
) -> None:
    path = maker.make("onnx")
    model = onnx.load(path)
    for name in ("WPCA", "conv5_3"):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    outputs = list(model.graph.output)
    for order in ([2, 0, 1], [1, 2, 0], [0, 1, 2]):
        del model.graph.output[:]
        model.graph.output.extend(outputs[i] for i in order)
        onnx.save(model, path)
        assert judged(path).passed, order


def test_a_stale_file_beside_a_faithful_one_is_told_apart(
    maker: Any, sources: Any, small: Any, tmp_path: Path
) -> None:
    from converters.convert import weights_of
    from converters.mini import mini

    def other(weights: Any, spec: Any) -> None:
        weights.update({k: np.array(v) for k, v in weights_of(mini(7), spec).items()})

    (tmp_path / "old").mkdir()
    stale = replace(maker, folder=tmp_path / "old", plant=other).make("onnx")
    runners = {"new": open_artifact(maker.make("keras")), "old": open_artifact(stale)}
    new, old = witness(sources["mini"], runners, small).regimes[0].columns
    assert isinstance(new, Column)
    assert new.verdict.passed
    assert (old.verdict.first_bad_layer, old.verdict.passed) == ("conv1_1", False)
    assert "the weights of another net: 30 of 31 tensors are others" in old.verdict.cause
