"""Datasets of places: images to be found, images to find them by, and where each was taken.

Three layouts are read: folders of images with their positions in their names, CSV files, and
NetVLAD's own `dbStruct` .mat files. Positions are easting and northing in metres, in any one
grid (UTM, usually); nothing is converted.
"""

from __future__ import annotations

import csv
import math
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.decoding import listed
from netvlad_keras.errors import DatasetError, RetrievalError

__all__ = ["NEAR", "RADIUS", "Dataset", "Places", "read"]

#: Metres within which two images show one place (NetVLAD's and everyone's since).
RADIUS = 25.0
#: Metres within which an image serves as a positive in training.
NEAR = 10.0

_POSITION = re.compile(r"@(-?\d+(?:\.\d+)?)@(-?\d+(?:\.\d+)?)@")
#: Metres round the Earth.
_EARTH = 4.1e7
_SETS = ("database", "queries")
_LAYOUTS = """a dataset is a folder with database/ and queries/ of images called
  @easting@northing@….jpg (also below images/{split}/ or {split}/), or with database.csv and
  queries.csv; a .csv with the columns path, easting, northing, set; or a dbStruct .mat"""


@dataclass(frozen=True, slots=True)
class Places:
    """Images and where they were taken: [N, 2] easting, northing, metres, float64."""

    paths: tuple[Path, ...]
    positions: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images to be found, images to find them by, and the radius of a place in metres.

    near  metres within which an image of the same place is a positive to train with.
    """

    database: Places
    queries: Places
    radius: float = RADIUS
    near: float = NEAR


def read(
    path: Path,
    *,
    split: str = "test",
    images: Path | None = None,
    query_images: Path | None = None,
    radius: float | None = None,
) -> Dataset:
    """Read a dataset in whichever layout it has; both lists are sorted by path.

    `split` is the folder below `images/` where there is one. Names in a .csv are relative to
    its folder, or to `images`; those in a .mat to `images` and `query_images` (default: the
    same). `radius` overrides that of the .mat (`posDistThr`) and the usual 25 m.

    Raises `DatasetError`.
    """
    if radius is not None and not 0 < radius < _EARTH:
        raise DatasetError(path, f"a radius of {radius} metres holds no place")
    roots = images or path.parent, query_images or images or path.parent
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        raise DatasetError(path, "there is no such file or folder") from error
    except OSError as error:
        raise DatasetError(path, f"cannot be read: {error.strerror}") from error
    stated, near = RADIUS, NEAR
    if is_folder:
        database, queries = _folder(path, split, images)
    elif path.suffix.lower() == ".mat":
        database, queries, stated, near = _mat(path, roots)
    elif path.suffix.lower() == ".csv":
        database, queries = _csv(path, roots)
    else:
        raise DatasetError(path, "is no dataset", advice=_LAYOUTS)
    for name, places in zip(_SETS, (database, queries), strict=True):
        if not places.paths:
            raise DatasetError(path, f"has no {name}")
        if len(set(places.paths)) != len(places.paths):
            raise DatasetError(path, f"names an image twice among its {name}")
    return Dataset(_sorted(database), _sorted(queries), radius or stated, near)


def _sorted(places: Places) -> Places:
    names = [path.as_posix() for path in places.paths]
    order = sorted(range(len(names)), key=names.__getitem__)
    return Places(tuple(places.paths[i] for i in order), places.positions[order])


def _folder(path: Path, split: str, images: Path | None) -> tuple[Places, Places]:
    for root in (path / "images" / split, path / split, path):
        if all((root / name).is_dir() for name in _SETS):
            return _named(root / _SETS[0]), _named(root / _SETS[1])
        if all((root / f"{name}.csv").is_file() for name in _SETS):
            database, queries = (
                _places(root / f"{name}.csv", _rows(root / f"{name}.csv"), images or root)
                for name in _SETS
            )
            return database, queries
    raise DatasetError(path, f"holds no dataset with the split {split!r}", advice=_LAYOUTS)


def _named(folder: Path) -> Places:
    """Images called `@easting@northing@….jpg`."""
    try:
        paths = listed([folder])
    except RetrievalError as error:
        raise DatasetError(folder, "has no images", advice=_LAYOUTS) from error
    found = [_POSITION.search(path.name) for path in paths]
    if wrong := [path.name for path, match in zip(paths, found, strict=True) if not match]:
        reason = f"{len(wrong)} names without a position, such as {wrong[0]}"
        raise DatasetError(folder, reason, advice=_LAYOUTS)
    return Places(paths, _array([(float(m[1]), float(m[2])) for m in found if m]))


def _csv(path: Path, roots: tuple[Path, Path]) -> tuple[Places, Places]:
    rows = _rows(path)
    unknown = [row for row in rows if row.get("set") not in _SETS]
    if unknown:
        reason = f"line {unknown[0]['line']}: set is {unknown[0].get('set')!r}"
        raise DatasetError(path, reason, advice="set is database or queries")
    database, queries = (
        _places(path, [row for row in rows if row["set"] == name], root)
        for name, root in zip(_SETS, roots, strict=True)
    )
    return database, queries


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows by their columns' names, and the line of each."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            missing = {"path", "easting", "northing"} - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(path, f"has no column {', '.join(sorted(missing))}")
            return [{**row, "line": str(reader.line_num)} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(path, f"is no .csv in UTF-8: {error}") from error


def _places(path: Path, rows: Sequence[dict[str, str]], root: Path) -> Places:
    positions = []
    for row in rows:
        if not row["path"]:
            raise DatasetError(path, f"line {row['line']}: names no image")
        try:
            positions.append((float(row["easting"]), float(row["northing"])))
            finite = all(map(math.isfinite, positions[-1]))
        except (TypeError, ValueError):  # a short row holds None
            finite = False
        if not finite:
            where = f"{row['easting']!r}, {row['northing']!r}"
            raise DatasetError(path, f"line {row['line']}: {where} is no position in metres")
    return Places(tuple(root / row["path"] for row in rows), _array(positions))


def _mat(path: Path, roots: tuple[Path, Path]) -> tuple[Places, Places, float, float]:
    found = import_module("netvlad_keras.dbstruct").read(path)
    if not all(np.isfinite(found[key]).all() for key in ("utmDb", "utmQ")):
        raise DatasetError(path, "has positions that are no numbers")
    database, queries = (
        Places(tuple(root / str(name) for name in found[names]), found[positions])
        for root, names, positions in zip(
            roots, ("dbImageFns", "qImageFns"), ("utmDb", "utmQ"), strict=True
        )
    )
    squared = float(found["nonTrivPosDistSqThr"])
    near = math.sqrt(squared) if squared > 0 else NEAR  # NaN where the file has none
    return database, queries, float(found["posDistThr"]) or RADIUS, near


def _array(positions: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    return np.array(positions, np.float64).reshape(-1, 2)
