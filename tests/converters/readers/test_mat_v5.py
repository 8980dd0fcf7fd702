"""The listing of a version 5 file's variables, read from their headers alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from converters.readers import mat_v5
from converters.readers.mat_v5_listing import listing

HEADER = b"MATLAB 5.0 MAT-file".ljust(124)
LITTLE = HEADER + b"\x00\x01IM"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LITTLE + struct.pack("<II", 14, 0), "nothing follows byte 128 of 136"),
        (LITTLE + struct.pack("<II", 9, 8) + bytes(8), "type 9 where a variable belongs"),
        (LITTLE + struct.pack("<III", 14, 4, 6), "unpack"),
        (LITTLE + b"\x0e\0\0\0", "unpack"),
    ],
)
def test_damaged(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "net.mat"
    path.write_bytes(content)
    with pytest.raises((ValueError, struct.error), match=reason):
        listing(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_cut_off(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "net.mat"
    values = np.random.default_rng(1).standard_normal(1000)
    scipy.io.savemat(path, {"first": 1.0, "last": values}, do_compression=compressed)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="last ends at byte"):
        listing(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_kinds(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "net.mat"
    content = {
        "a_double": np.ones(3),
        "b": np.ones(3, np.float32),
        "a_name_that_is_longer_than_any_packed_element": "text",
        "yes": np.array([True]),
        "cell": np.array([1.0, "x"], dtype=object),
        "net": {"layers": np.ones((1000, 100))},
        "sparse": scipy.sparse.eye(3, format="csc"),
        "bytes": np.ones(3, np.uint8),
    }
    scipy.io.savemat(path, content, do_compression=compressed)
    assert mat_v5.variables(path) == {
        "a_double": "double",
        "b": "single",
        "a_name_that_is_longer_than_any_packed_element": "char",
        "yes": "logical",
        "cell": "cell",
        "net": "struct",
        "sparse": "sparse",
        "bytes": "uint8",
    }
    assert [(v.name, v.kind) for v in listing(path)] == [
        (name, kind) for name, _, kind in scipy.io.whosmat(path)
    ]


def test_objects_by_their_names_and_classes(tmp_path: Path) -> None:
    matio = pytest.importorskip("matio", reason="mat-io writes class objects")
    from matio.utils.matclass import MatlabOpaque

    path = tmp_path / "net.mat"
    one, two = (MatlabOpaque({"a": np.ones((1, n))}, f"pack.Class{n}") for n in (1, 2))
    matio.save_to_mat(str(path), {"one": one, "x": np.ones((1, 1)), "two": two}, version="v7")
    assert mat_v5.variables(path) == {"one": "pack.Class1", "x": "double", "two": "pack.Class2"}
    found = mat_v5.load(path, ["two", "x", "one"])
    assert [getattr(found[name], "classname", "") for name in ("one", "two", "x")] == [
        *("pack.Class1", "pack.Class2", ""),
    ]


def test_struct_without_fields(tmp_path: Path) -> None:
    path = tmp_path / "net.mat"
    scipy.io.savemat(path, {"s": {"block": {}, "other": 1.0}})
    found = mat_v5.load(path, ["s"])["s"]
    assert isinstance(found, dict)
    assert found["block"] == {}
