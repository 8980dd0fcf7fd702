"""The descriptor gate on small sets whose rankings are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters.errors import ConversionError
from verify.capture import Array
from verify.images import describe, listed
from verify.ranking import Described, compare, positions


class MeanColour:
    """Describes an image by its mean colour, of length 1."""

    def __init__(self, tilt: float = 0.0) -> None:
        self.tilt = tilt

    def deployed(self, images: Array) -> Mapping[str, Array]:
        colour = images.astype(np.float64).mean(axis=(1, 2)) + np.array([self.tilt, 0, 0])
        return {"descriptor": colour / np.linalg.norm(colour, axis=1, keepdims=True)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    colours = {"red": (250, 9, 9), "green": (9, 250, 9), "blue": (9, 9, 250)}
    for name, colour in colours.items():
        Image.new("RGB", (8, 6), colour).save(tmp_path / f"{name}.png")
    return tmp_path


def described(rows: Array, names: list[str]) -> Described:
    return Described(tuple(Path(name) for name in names), rows, {})


def test_images_are_found_in_the_order_of_their_paths(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    assert [path.name for path in listed(folder)] == ["blue.png", "green.png", "red.png"]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no images"):
        listed(tmp_path)


def test_a_broken_image_is_named_and_the_rest_go_on(folder: Path) -> None:
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    found = describe(MeanColour(), listed(folder))
    assert [path.name for path in found.paths] == ["blue.png", "green.png", "red.png"]
    assert [path.name for path in found.broken] == ["cut.jpg"]
    assert found.descriptors.shape == (3, 3)


def test_equal_artifacts_pass(folder: Path) -> None:
    found = describe(MeanColour(), listed(folder))
    gate = compare({"a": (found, found), "b": (found, found)})
    (row,) = gate.agreements
    assert gate.passed
    assert (row.artifact, row.dimension, row.max_l2, row.top1, row.topk) == ("b", 3, 0.0, 1.0, 1.0)


def test_a_tilted_artifact_fails_by_the_image_that_it_moves_most(folder: Path) -> None:
    paths = listed(folder)
    straight, tilted = describe(MeanColour(), paths), describe(MeanColour(200.0), paths)
    gate = compare({"a": (straight, straight), "b": (tilted, tilted)})
    assert not gate.passed
    assert gate.agreements[0].worst.name == "blue.png"
    assert gate.agreements[0].max_l2 > 0.1


def test_another_ranking_fails_even_within_the_limit() -> None:
    database = np.array([[1.0, 0.0], [0.0, 1.0]])
    names = ["db1", "db2"]
    first = described(np.array([[0.7072, 0.7070]]), ["q"])
    second = described(np.array([[0.7070, 0.7072]]), ["q"])
    base = described(database, names)
    gate = compare({"a": (base, first), "b": (base, second)}, limit=1e-2)
    assert gate.agreements[0].max_l2 < 1e-2
    assert gate.agreements[0].top1 == 0.0
    assert not gate.passed


def test_ties_go_by_path() -> None:
    base = described(np.array([[1.0, 0.0], [1.0, 0.0]]), ["db1", "db2"])
    query = described(np.array([[1.0, 0.0]]), ["q"])
    assert compare({"a": (base, query), "b": (base, query)}).agreements[0].top1 == 1.0


def test_positions_are_read_from_names() -> None:
    names = [Path("@0412345.5@4567890@x@.jpg"), Path("a/@10@20@.png")]
    np.testing.assert_array_equal(positions(names), [[412345.5, 4567890], [10, 20]])
    assert positions([*names, Path("none.jpg")]) is None


def test_recall_and_its_change() -> None:
    names = ["@0@0@.jpg", "@100@0@.jpg"]
    base = described(np.array([[1.0, 0.0], [0.0, 1.0]]), names)
    right = described(np.array([[0.9, 0.1]]), ["@10@10@.jpg"])
    wrong = described(np.array([[0.1, 0.9]]), ["@10@10@.jpg"])
    (row,) = compare({"a": (base, right), "b": (base, wrong)}).agreements
    assert row.recall == {1: 0.0}
    assert row.recall_change == {1: -1.0}


def test_crops_are_normalised_again() -> None:
    rows = np.zeros((2, 200))
    rows[0, :2] = rows[1, 1:3] = np.sqrt(0.5)
    scaled = rows.copy()
    scaled[:, 128:] = 1.0
    names = ["a", "b"]
    pair = described(rows, names), described(scaled, names)
    gate = compare({"x": (pair[0], pair[0]), "y": (pair[1], pair[1])}, crop=True)
    by_size = {row.dimension: row.max_l2 for row in gate.agreements}
    assert by_size[128] == pytest.approx(0.0, abs=1e-12)
    assert by_size[200] > 1.0


def test_descriptors_of_other_lengths_do_not_compare() -> None:
    one, two = described(np.eye(2), ["a", "b"]), described(np.eye(3)[:2], ["a", "b"])
    with pytest.raises(ConversionError, match="do not compare"):
        compare({"x": (one, one), "y": (two, two)})
