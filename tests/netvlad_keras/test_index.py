"""Search: exact, with ties in order, and the same with faiss and without."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from netvlad_keras.index import Ranking, search

ENGINES = [
    "numpy",
    pytest.param(
        "faiss",
        marks=pytest.mark.skipif(find_spec("faiss") is None, reason="faiss is not installed"),
    ),
]
Array = NDArray[Any]


def _exact(database: Array, queries: Array, count: int) -> Ranking:
    """By hand: every difference, squared and summed in float64; ties in order."""
    rows = [
        np.square(database.astype(np.float64) - query.astype(np.float64)).sum(axis=1)
        for query in queries
    ]
    order = [np.argsort(row, kind="stable")[:count] for row in rows]
    nearest = [row[chosen] for row, chosen in zip(rows, order, strict=True)]
    return Ranking(np.array(order), np.array(nearest))


def _unit(count: int, dimension: int, seed: int = 0) -> Array:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _duplicates() -> tuple[Array, Array]:
    rows = _unit(40, 16)
    return rows[np.arange(400) % 40], rows[:7]


def _closer_than_float32() -> tuple[Array, Array]:
    """Steps of 1e-7, far from the mean: float32 has steps of 6e-5 there."""
    near = 1000 + np.arange(500)[::-1, None] * [1e-7, 0]
    return np.concatenate([near, -near]), np.full((3, 2), 1000.0)


def _metres() -> tuple[Array, Array]:
    """Raw UTM: easting, northing. In float32 a northing has steps of half a metre."""
    rng = np.random.default_rng(1)
    places = rng.uniform(0, 300, (800, 2)) + np.array([584744.25, 4476709.75])
    return places, places[:50] + 0.01


CASES = {
    "descriptors": (_unit(900, 64), _unit(9, 64, seed=1)),
    "fewer than asked for": (_unit(5, 8), _unit(3, 8, seed=1)),
    "one": (_unit(1, 8), _unit(3, 8, seed=1)),
    "no queries": (_unit(9, 8), _unit(0, 8)),
    "many queries": (_unit(60, 4), _unit(600, 4, seed=1)),
    "duplicates": _duplicates(),
    "all the same": (np.ones((300, 8), np.float32), np.ones((2, 8), np.float32)),
    "closer than float32 can tell": _closer_than_float32(),
    "raw UTM": _metres(),
}


@pytest.mark.parametrize(
    ("database", "queries", "said"),
    [
        (np.zeros((0, 4)), np.zeros((1, 4)), "cannot be found"),
        (np.zeros((2, 4)), np.zeros((1, 5)), "do not match"),
        (np.zeros(4), np.zeros((1, 4)), "do not match"),
        (np.full((2, 4), np.nan), np.zeros((1, 4)), "NaN"),
        (np.zeros((2, 4)), np.full((1, 4), np.inf), "NaN"),
    ],
)
def test_what_has_no_neighbours_is_refused(database: Array, queries: Array, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        search(database, queries, 3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("vectors", CASES.values(), ids=CASES)
def test_the_answer_is_exact(engine: str, vectors: tuple[Array, Array]) -> None:
    database, queries = vectors
    found = search(database, queries, 20, engine=engine)
    assert found.indices.shape == (len(queries), min(20, len(database)))
    if len(queries):
        expected = _exact(database, queries, 20)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_of_the_database_do_not_show(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database, queries = CASES["descriptors"]
    expected = search(database, queries, 20, engine=engine)
    for module in ("index", f"index_{engine}"):
        monkeypatch.setattr(f"netvlad_keras.{module}._ELEMENTS", 64 * 7)
    found = search(database, queries, 20, engine=engine)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_small_grid(engine: str, data: st.DataObject) -> None:
    """Whole numbers give ties of every kind."""
    numbers = st.integers(-3, 3)
    rows = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=120)
    database = np.array(data.draw(rows), np.float32) + np.float32(
        data.draw(st.sampled_from([0, 1e5]))
    )
    queries = database[: data.draw(st.integers(1, len(database)))]
    count = data.draw(st.integers(1, 130))
    found, expected = (
        search(database, queries, count, engine=engine),
        _exact(database, queries, count),
    )
    np.testing.assert_array_equal(found.indices, expected.indices)
