"""Datasets in their layouts: folders, CSV files, dbStruct."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from netvlad_keras.datasets import read
from netvlad_keras.errors import DatasetError

DATABASE = [("b", 584825.5, 4476945.25), ("a", 584744.0, 4476709.0)]
QUERIES = [("q", 584744.75, 4476710.5)]


def _folder(root: Path) -> Path:
    for name, rows in (("database", DATABASE), ("queries", QUERIES)):
        folder = root / name
        folder.mkdir(parents=True)
        for label, east, north in rows:
            Image.new("RGB", (8, 8)).save(
                folder / f"@{east:010.2f}@{north:010.2f}@17@T@{label}@.jpg"
            )
    return root


def _mat(path: Path, **changes: Any) -> Path:
    """As the published files have it: cells of names, 2×N positions, a radius in uint8."""

    def cells(rows: list[tuple[str, float, float]]) -> Any:
        found = np.empty((len(rows), 1), object)
        found[:, 0] = [f"{row[0]}.jpg" for row in rows]
        return found

    def utm(rows: list[tuple[str, float, float]]) -> Any:
        return np.array([row[1:] for row in rows]).T

    fields = {
        "whichSet": "test",
        "dbImageFns": cells(DATABASE),
        "utmDb": utm(DATABASE),
        "qImageFns": cells(QUERIES),
        "utmQ": utm(QUERIES),
        "numImages": 2.0,
        "numQueries": 1.0,
        "posDistThr": np.uint8(25),
        "posDistSqThr": np.uint16(625),
    } | changes
    kept = {key: value for key, value in fields.items() if value is not None}
    scipy.io.savemat(path, {"dbStruct": kept})
    return path


def _csv(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


# Refused.


@pytest.mark.parametrize(
    ("name", "said"), [("absent", "no such file"), ("empty", "no dataset"), ("x.txt", "no dataset")]
)
def test_what_is_no_dataset_is_refused(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DatasetError, match=said):
        read(tmp_path / name)


def test_a_name_without_a_position_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "d")
    Image.new("RGB", (8, 8)).save(folder / "queries" / "holiday.jpg")
    with pytest.raises(DatasetError, match=r"1 names without a position, such as holiday\.jpg"):
        read(folder)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["path,easting,set", "a,1,database"], "no column northing"),
        (["path,easting,northing", "a,1,2"], "line 2: set is None"),
        (
            ["path,easting,northing,set", "a,1,2,database", "b,1,2,querys"],
            "line 3: set is 'querys'",
        ),
        (["path,easting,northing,set", "a,1,x,database"], "line 2: '1', 'x' is no position"),
        (["path,easting,northing,set", "a,1,nan,database"], "line 2: .* is no position"),
        (["path,easting,northing,set", "a,1,2,database"], "has no queries"),
        (
            ["path,easting,northing,set", "a,1,2,database", "a,1,3,database", "q,1,2,queries"],
            "an image twice among its database",
        ),
        (["path,easting,northing,set", "a,1,2,database", ",1,2,queries"], "line 3: names no image"),
        (["set,easting,northing,path", "database,1,2,a", "queries,1,2"], "line 3: names no image"),
    ],
)
def test_a_faulty_csv_is_refused(rows: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        read(_csv(tmp_path / "d.csv", rows))


def test_a_csv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    head = "path,easting,northing,set\n"
    for content in (
        f"{head}Zürich,1,2,queries".encode("latin-1"),
        f"{head}{'a' * 200_000}".encode(),
    ):
        (tmp_path / "d.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=r"d\.csv: is no \.csv in UTF-8"):
            read(tmp_path / "d.csv")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(DatasetError, match="File name too long"):
        read(Path("x" * 300))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"utmQ": None}, "dbStruct lacks utmQ"),
        ({"utmDb": np.zeros((2, 3))}, r"2 dbImageFns and utmDb \(2, 3\)"),
        ({"utmQ": np.full((2, 1), np.nan)}, "no numbers"),
    ],
)
def test_a_faulty_dbstruct_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        read(_mat(tmp_path / "d.mat", **changes))


def test_another_mat_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "d.mat", {"net": 1})
    with pytest.raises(DatasetError, match="no variable dbStruct"):
        read(tmp_path / "d.mat")


@pytest.mark.parametrize(
    "name", ["mdtype8.mat", "deep_cells_60000.mat", "trunc0.3_vgg_mcos_saveobj_v73.mat"]
)
def test_a_hostile_mat_does_not_take_us_with_it(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="no dbStruct that can be read"):
        read(shared_data / "hostile" / name)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("inf"), float("nan")])
def test_a_radius_that_holds_no_place_is_refused(radius: float, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="radius"):
        read(_folder(tmp_path / "d"), radius=radius)


# Read.


@pytest.mark.parametrize("below", [".", "test", "images/test"])
def test_the_folders_of_today(below: str, tmp_path: Path) -> None:
    _folder(tmp_path / "d" / below)
    found = read(tmp_path / "d")
    east = [584744.0, 584825.5]  # by path
    np.testing.assert_array_equal(found.database.positions[:, 0], east)
    np.testing.assert_array_equal(found.queries.positions, [[584744.75, 4476710.5]])
    assert found.database.paths[0].name == "@0584744.00@4476709.00@17@T@a@.jpg"
    assert found.radius == 25


def test_the_split_is_chosen(tmp_path: Path) -> None:
    _folder(tmp_path / "images" / "val")
    assert len(read(tmp_path, split="val").queries.paths) == 1
    with pytest.raises(DatasetError, match="'test'"):
        read(tmp_path)


def test_a_csv(tmp_path: Path) -> None:
    rows = ["set,path, easting,northing", "database,b.jpg,1.5,2", "queries,q.jpg,3,4"]
    found = read(_csv(tmp_path / "d.csv", [*rows, "database,a.jpg,-5,6"]))
    assert found.database.paths == (tmp_path / "a.jpg", tmp_path / "b.jpg")
    np.testing.assert_array_equal(found.database.positions, [[-5, 6], [1.5, 2]])
    assert found.queries.paths == (tmp_path / "q.jpg",)


def test_two_csvs_in_a_folder(tmp_path: Path) -> None:
    head = "path,easting,northing"
    _csv(tmp_path / "database.csv", [head, "a.jpg,1,2"])
    _csv(tmp_path / "queries.csv", [head, "q.jpg,3,4"])
    found = read(tmp_path, images=tmp_path / "elsewhere", radius=10)
    assert found.database.paths == (tmp_path / "elsewhere" / "a.jpg",)
    np.testing.assert_array_equal(found.queries.positions, [[3, 4]])
    assert found.radius == 10


@pytest.mark.parametrize(
    ("radius", "expected"), [(None, 25.0), (10.0, 10.0)], ids=["its own", "ours"]
)
def test_a_dbstruct(radius: float | None, expected: float, tmp_path: Path) -> None:
    mat = _mat(tmp_path / "d.mat")
    found = read(mat, images=Path("db"), query_images=Path("q"), radius=radius)
    assert found.database.paths == (Path("db/a.jpg"), Path("db/b.jpg"))
    np.testing.assert_array_equal(
        found.database.positions, [[584744.0, 4476709.0], [584825.5, 4476945.25]]
    )
    assert found.queries.paths == (Path("q/q.jpg"),)
    assert found.radius == expected


@pytest.mark.parametrize(("squared", "near"), [(None, 10.0), (np.uint8(49), 7.0)])
def test_the_positives_of_a_dbstruct(squared: Any, near: float, tmp_path: Path) -> None:
    assert read(_mat(tmp_path / "d.mat", nonTrivPosDistSqThr=squared)).near == near


def test_the_radius_of_a_dbstruct_is_no_uint8(tmp_path: Path) -> None:
    """25 squared is 113 in uint8."""
    found = read(_mat(tmp_path / "d.mat"))
    assert isinstance(found.radius, float)
    assert found.radius**2 == 625
