"""The picture of a search."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netvlad_keras.errors import EnvironmentFailure
from netvlad_keras.picture import Found, draw

COLOURS = {"query": (200, 40, 40), "first": (40, 160, 40), "second": (40, 40, 200)}


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """One colour each, of different shapes."""
    sizes = {"query": (640, 480), "first": (300, 600), "second": (1000, 100)}
    for name, colour in COLOURS.items():
        Image.new("RGB", sizes[name], colour).save(tmp_path / f"{name}.png")
    return {name: tmp_path / f"{name}.png" for name in COLOURS}


def _where(path: Path, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has this colour."""
    with Image.open(path) as picture:
        mask = (np.asarray(picture.convert("RGB")) == colour).all(axis=2)
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_the_query_stands_left_and_its_matches_in_order(
    images: dict[str, Path], tmp_path: Path
) -> None:
    row = Found(images["query"], [(images["first"], 0.5), (images["second"], 0.75)])
    draw([row], tmp_path / "p.png")
    places = [_where(tmp_path / "p.png", colour) for colour in COLOURS.values()]
    assert places[0][2] < places[1][0]
    assert places[1][2] < places[2][0]
    # Fitted in whole: 640×480 fills the cell, the others keep their proportions.
    sizes = [(right - left + 1, bottom - top + 1) for left, top, right, bottom in places]
    assert sizes == [(320, 240), (120, 240), (320, 32)]
    assert len({bottom for *_, bottom in places}) == 1


def test_a_row_for_each_query(images: dict[str, Path], tmp_path: Path) -> None:
    draw(
        [Found(images["query"], [(images["first"], 0.5)]), Found(images["second"], [])],
        tmp_path / "p.png",
    )
    assert _where(tmp_path / "p.png", COLOURS["second"])[1] > 240


def test_an_image_that_is_gone_leaves_its_place(images: dict[str, Path], tmp_path: Path) -> None:
    row = Found(images["query"], [(tmp_path / "gone.png", 0.5), (images["second"], 0.75)])
    draw([row], tmp_path / "p.png")
    assert _where(tmp_path / "p.png", COLOURS["second"])[0] > 2 * 320


def test_the_distances_are_in_it(images: dict[str, Path], tmp_path: Path) -> None:
    for name, distance in (("a", 0.5), ("b", 0.6)):
        draw([Found(images["query"], [(images["first"], distance)])], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_a_picture_that_cannot_be_written(images: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        draw([Found(images["query"], [])], tmp_path / "file" / "p.png")


def test_two_runs_draw_at_the_same_name(images: dict[str, Path], tmp_path: Path) -> None:
    """Each as often as it can: what stands there is always a whole picture of one of them."""
    path = tmp_path / "p.png"

    def drawn(name: str) -> None:
        for _ in range(8):
            draw([Found(images[name], [])], path)
            with Image.open(path) as picture:
                picture.load()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(drawn, ("first", "second"))) == [None, None]
    assert not list(tmp_path.glob(".*"))
