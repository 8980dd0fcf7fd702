"""Small .mat files made on the fly, of both containers, from plain Python values.

dict -> struct    list -> cell array    tuple of dicts -> struct array
str -> char       number -> double      array -> itself
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

#: save(net=..., other=...) writes a file of these variables and gives its path.
Save = Callable[..., Path]

_NUMBERS = itertools.count()
_CLASSES = {"f8": "double", "f4": "single", "u1": "uint8", "i4": "int32", "b1": "logical"}


@pytest.fixture
def save_v5(tmp_path: Path) -> Save:
    def save(**variables: Any) -> Path:
        path = tmp_path / "net.mat"
        content = {name: _v5(value) for name, value in variables.items()}
        scipy.io.savemat(path, content, do_compression=True)
        return path

    return save


@pytest.fixture
def save_v73(tmp_path: Path) -> Save:
    def save(**variables: Any) -> Path:
        path = tmp_path / "net73.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, value in variables.items():
                _v73(file, name, value)
        header = b"MATLAB 7.3 MAT-file, made by a test".ljust(124) + b"\x00\x02IM"
        with path.open("r+b") as raw:
            raw.write(header)
        return path

    return save


@pytest.fixture(params=["v5", "v7.3"])
def save(request: pytest.FixtureRequest) -> Save:
    """Each test that asks for this runs once per container."""
    fixture: Save = request.getfixturevalue({"v5": "save_v5", "v7.3": "save_v73"}[request.param])
    return fixture


def _v5(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _v5(item) for name, item in value.items()}
    if isinstance(value, list):
        cell = np.empty((1, len(value)) if value else (0, 0), dtype=object)
        for index, item in enumerate(value):
            cell[0, index] = _v5(item)
        return cell
    if isinstance(value, tuple):
        structs = np.empty((1, len(value)), dtype=[(name, object) for name in value[0]])
        for index, item in enumerate(value):
            structs[0, index] = tuple(_v5(field) for field in item.values())
        return structs
    return float(value) if isinstance(value, int | float) else value


def _v73(group: h5py.Group, name: str, value: Any) -> None:
    if isinstance(value, dict):
        struct = group.create_group(name)
        _mark(struct, "struct")
        for field, item in value.items():
            _v73(struct, field, item)
    elif isinstance(value, tuple):
        structs = group.create_group(name)
        _mark(structs, "struct")
        for field in value[0]:
            structs[field] = _references(group.file, [item[field] for item in value])
    elif isinstance(value, str | list | np.ndarray) and not len(value):
        group[name] = np.zeros(2, np.uint64)
        kinds: dict[type, str] = {list: "cell", str: "char"}
        _mark(group[name], kinds.get(type(value), "double"))
        group[name].attrs["MATLAB_empty"] = np.uint8(1)
    elif isinstance(value, list):
        group[name] = _references(group.file, value)
        _mark(group[name], "cell")
    elif isinstance(value, str):
        group[name] = np.array([[ord(letter)] for letter in value], np.uint16)
        _mark(group[name], "char")
    else:
        array = np.atleast_2d(np.asarray(float(value) if isinstance(value, int) else value))
        group[name] = array.T
        _mark(group[name], _CLASSES[array.dtype.str[1:]])


def _references(file: h5py.File, items: list[Any]) -> Any:
    table = np.empty((len(items), 1), dtype=h5py.ref_dtype)
    for index, item in enumerate(items):
        name = f"#refs#/{next(_NUMBERS)}"
        _v73(file, name, item)
        table[index, 0] = file[name].ref
    return table


def _mark(item: Any, kind: str) -> None:
    item.attrs["MATLAB_class"] = np.bytes_(kind)
