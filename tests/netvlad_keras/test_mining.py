"""Mining on positions and features small enough to do it by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from netvlad_keras.mining import Miner, Mining, Tuple, rounds
from netvlad_keras.recipe import Recipe

Array = NDArray[Any]

#: Metres from the query at 0: 0.5 and 1 are too near to be positives, 10 is one, 10.5 to 25
#: nothing, the others are negatives.
METRES = np.array([0.5, 1, 5, 10, 10.5, 25, 25.5, 100, 200, 300])
DATABASE = np.stack([METRES, np.zeros(10)], axis=1)
QUERIES = np.zeros((1, 2))
#: Squared distances to the query's 0: positives .25 and .09; negatives .1225, .01, .1764, 4.
FEATURES = np.array([0, 0, 0.5, 0.3, 0, 0, 0.35, 0.1, 0.42, 2.0])[:, None]
QUERY = np.zeros((1, 1))


def _mined(options: Mining = Mining(), features: Array = FEATURES) -> Any:  # noqa: B008
    return Miner(DATABASE, QUERIES, options).mine(0, features, QUERY)


def test_positives_and_negatives_by_metres() -> None:
    miner = Miner(DATABASE, QUERIES)
    assert miner.positives(0).tolist() == [2, 3]
    assert miner.negatives(0).tolist() == [6, 7, 8, 9]


def test_a_tuple_on_the_toy_cache() -> None:
    """3 is the nearer positive; up to .19 violates: 7, 6, 8 from near to far; 9 does not."""
    found = _mined()
    assert found.tuple == Tuple(query=0, positive=3, negatives=(7, 6, 8))
    assert found.considered == 4


@pytest.mark.parametrize(
    ("change", "negatives", "considered"),
    [
        ({"kept": 2}, (7, 6), 2),
        ({"searched": 1}, (7,), 1),
        ({"margin": 10.0}, (7, 6, 8, 9), 4),
        ({"margin": 0.0}, (7,), 4),
        ({"negative_above": 50.0}, (7, 8), 3),
        ({"positive_to": 6.0}, (7, 6, 8), 4),
        ({"margin": -0.08}, None, 4),  # .09 - .08 is not more than .01
        ({"positive_above": 10.0}, None, 0),
        ({"negative_above": 300.0}, None, 0),
    ],
)
def test_every_number_counts(
    change: dict[str, Any], negatives: tuple[int, ...] | None, considered: int
) -> None:
    found = _mined(replace(Mining(), **change))
    assert (found.tuple and found.tuple.negatives, found.considered) == (negatives, considered)


def test_at_the_margin_nothing_violates() -> None:
    features = FEATURES.copy()
    features[[2, 3], 0] = 0.5
    features[6:, 0] = 0.75
    assert _mined(Mining(margin=0.3125), features).tuple is None
    assert _mined(Mining(margin=0.3126), features).tuple is not None


def test_hard_negatives_are_remembered() -> None:
    """One is drawn at a time; the nearest two seen so far stay."""
    miner = Miner(DATABASE, QUERIES, Mining(sampled=1, remembered=2))
    seen = set()
    for _ in range(30):
        found = miner.mine(0, FEATURES, QUERY).tuple
        seen |= set(found.negatives) if found else set()
    assert seen == {6, 7, 8}
    assert miner.state()["memory"].tolist() == [7, 6]


def test_a_query_without_violation_remembers_too() -> None:
    miner = Miner(DATABASE, QUERIES, Mining(margin=-1.0))
    assert miner.mine(0, FEATURES, QUERY).tuple is None
    assert miner.state()["memory"].tolist() == [7, 6, 8, 9]


def _random_miner() -> tuple[Miner, Array, Array]:
    rng = np.random.default_rng(1)
    database = np.stack([50.0 * np.arange(60), np.zeros(60)], axis=1)
    miner = Miner(database, database + np.array([3, 0]), Mining(sampled=20, margin=5.0))
    return miner, rng.normal(size=(60, 3)), rng.normal(size=(60, 3))


def test_it_goes_on_from_a_saved_state() -> None:
    first, *features = _random_miner()
    order = first.begin(2)
    for query in order[:30]:
        first.mine(int(query), *features)
    state = {name: array.copy() for name, array in first.state().items()}
    expected = [first.mine(int(query), *features) for query in order[30:]]
    second = _random_miner()[0]
    second.restore(state)
    assert [second.mine(int(query), *features) for query in order[30:]] == expected
    assert any(each.tuple for each in expected)


def test_the_state_of_other_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="60 queries and not 1"):
        Miner(DATABASE, QUERIES).restore(_random_miner()[0].state())


def test_an_epoch_starts_the_random_numbers_anew() -> None:
    miner = _random_miner()[0]
    orders = [miner.begin(epoch).tolist() for epoch in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(60))
    assert _random_miner()[0].begin(1).tolist() == orders[0]
    assert Miner(DATABASE, np.zeros((60, 2)), seed=44).begin(1).tolist() != orders[0]


@pytest.mark.parametrize(
    ("batches", "every", "expected"),
    [
        (10, 4, [(0, 3), (3, 7), (7, 10)]),  # before the 4th and the 8th
        (8, 4, [(0, 3), (3, 8)]),  # the 8th is the last
        (3, 1, [(0, 1), (1, 3)]),  # the first has fresh features anyway
        (3, 9, [(0, 3)]),
        (1, 1, [(0, 1)]),
        (0, 1, []),
    ],
)
def test_rounds(batches: int, every: int, expected: list[tuple[int, int]]) -> None:
    assert [(part.start, part.stop) for part in rounds(batches, every)] == expected


def test_the_recipe_is_the_originals() -> None:
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch, recipe.momentum, recipe.decay) == (30, 4, 0.9, 1e-3)
    assert recipe.train_from == "conv5_1"
    assert recipe.mining == Mining(0.1, 1000, 10, 100, 10, 1.0, 10.0, 25.0)
    assert [recipe.rate(epoch) for epoch in (1, 5, 6, 10, 11, 26)] == [
        1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 1e-3 / 32,
    ]  # fmt: skip
    assert [recipe.renewal(epoch) for epoch in (1, 5, 6, 11)] == [250, 250, 500, 1000]
