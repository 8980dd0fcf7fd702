"""Vectors so short that an epsilon shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.errors import LayerError
from converters.mini import mini
from verify import oracle
from verify.candidate import Candidate
from verify.near_zero import LENGTHS, is_l2, probe, shortened
from verify.tolerance import Tolerance

Array = NDArray[Any]

SOURCE = mini()
LAYERS = {layer.name: layer for layer in SOURCE.layers}
VECTORS: Array = np.random.default_rng(2).standard_normal((2, 16)).astype(np.float32)
MAP: Array = np.random.default_rng(2).standard_normal((2, 4, 5, 16)).astype(np.float32)


def lengths(values: Array) -> Array:
    found: Array = np.linalg.norm(values.astype(np.float64), axis=-1)
    return found


def test_the_lengths_go_from_1e_9_to_1e_3() -> None:
    assert LENGTHS == (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def test_a_whole_vector_is_there_at_every_length_in_batches_of_its_own_size() -> None:
    batches = shortened(VECTORS, whole=True)
    assert [batch.shape for batch in batches] == [(2, 16)] * 7
    for batch, length in zip(batches, LENGTHS, strict=True):
        np.testing.assert_allclose(lengths(batch), [length, length], rtol=1e-6)
        np.testing.assert_allclose(batch / length, VECTORS / lengths(VECTORS)[:, None], rtol=1e-5)


def test_the_vectors_of_a_map_have_every_length_in_turn() -> None:
    (batch,) = shortened(MAP, whole=False)
    assert batch.shape == MAP.shape
    np.testing.assert_allclose(lengths(batch).ravel(), np.resize(LENGTHS, 40), rtol=1e-6)


@pytest.mark.parametrize("whole", [True, False])
def test_a_vector_of_zeros_stays_one(whole: bool) -> None:
    batches = shortened(np.zeros_like(VECTORS), whole=whole)
    assert not any(batch.any() for batch in batches)


def test_the_l2_layers_are_found() -> None:
    found = [name for name, layer in LAYERS.items() if is_l2(layer)]
    assert found == ["preL2", "vlad:intranorm", "postL2", "finalL2"]


Divisor = Callable[[Array], Array]


@dataclass
class Normalizing:
    """A runner whose L2 layers divide by what `divisor` makes of the sum of squares."""

    divisor: Divisor | None
    kind: str = "onnx"
    most: int = 99

    def replay(self, layer: str, inputs: Sequence[Array]) -> Array:
        (x,) = inputs
        if len(x) > self.most:
            raise LayerError("it", {layer: f"takes {self.most} images"})
        if self.divisor is None:
            return oracle.replay(SOURCE, layer, [x], np.float32)
        wide = x.astype(np.float64)
        energy = np.square(wide).sum(axis=-1, keepdims=True)
        return np.asarray(wide / self.divisor(energy), np.float32)


def probed(runner: Normalizing, layer: str, values: Array) -> Candidate:
    artifact = Candidate("it", runner, Tolerance())  # type: ignore[arg-type]
    probe(SOURCE, LAYERS[layer], values, [artifact])
    return artifact


def clamped(energy: Array) -> Array:
    return np.sqrt(np.maximum(energy, 1e-12))


def under(epsilon: float) -> Divisor:
    return lambda energy: np.sqrt(energy + epsilon)


@pytest.mark.parametrize(
    ("layer", "values", "divisor", "kind", "cause"),
    [
        ("preL2", MAP, None, "onnx", None),
        ("finalL2", VECTORS, None, "onnx", None),
        ("preL2", MAP, under(1e-12), "keras", None),
        ("preL2", MAP, under(1e-6), "onnx", "an epsilon of 1e-06 in place of 1e-12"),
        ("preL2", MAP, under(0.0), "onnx", "an epsilon of 0 in place of 1e-12"),
        ("preL2", MAP, under(2.5e-7), "onnx", "an epsilon"),
        ("finalL2", VECTORS, under(1e-12), "onnx", "an epsilon of 1e-12 under the root"),
        # a difference that shows at 1e-5 alone: at 1e-9 both give the vector's direction
        (
            "finalL2",
            VECTORS,
            lambda e: np.sqrt(e) * np.where(np.abs(np.sqrt(e) - 1e-5) < 1e-7, 1.1, 1.0),
            "onnx",
            "an epsilon",
        ),
        # TensorFlow's clamp is known in TensorFlow 1's graphs, and nowhere else
        ("preL2", MAP, clamped, "tf_graph", None),
        ("finalL2", VECTORS, clamped, "tf_graph", None),
        ("postL2", VECTORS, under(1e-12), "tf_graph", None),
        ("preL2", MAP, clamped, "onnx", "an epsilon of 1e-12 as the least sum of squares"),
        ("finalL2", VECTORS, clamped, "onnx", "an epsilon of 1e-12 as the least sum of squares"),
        ("preL2", MAP, under(1e-6), "tf_graph", "an epsilon of 1e-06 in place of 1e-12"),
        ("finalL2", VECTORS, under(1e-6), "tf_graph", "an epsilon of 1e-06 under the root"),
    ],
)
def test_an_epsilon_is_seen(
    layer: str, values: Array, divisor: Divisor | None, kind: str, cause: str | None
) -> None:
    artifact = probed(Normalizing(divisor, kind), layer, values)
    (row,) = artifact.results
    assert (row.layer, row.passed) == (layer, cause is None)
    assert artifact.causes == ({} if cause is None else {layer: cause})


def test_an_artifact_of_a_fixed_batch_is_probed_too() -> None:
    (row,) = probed(Normalizing(None, most=2), "finalL2", VECTORS).results
    assert row.passed
    assert row.shape == (14, 16)


def test_a_layer_that_cannot_be_run_alone_fails() -> None:
    artifact = probed(Normalizing(None, most=1), "finalL2", VECTORS)
    (row,) = artifact.results
    assert not row.passed
    assert "takes 1 images" in row.problem


def test_nan_is_a_failure() -> None:
    artifact = probed(Normalizing(lambda energy: energy * np.nan), "preL2", MAP)
    assert "NaN" in artifact.results[0].problem
