"""Version 7.3 files that reach out of themselves, or are not MATLAB's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from converters.errors import ReadError
from converters.readers.matconvnet import read

Save = Callable[..., Path]
Edit = Callable[[h5py.File, Path], None]
SECRET = b"NOT-YOURS"


@pytest.fixture
def good(save_v73: Save) -> Path:
    return save_v73(net={"layers": [{"type": "relu", "name": "a", "leak": 0.0}], "meta": {}})


def external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.zeros(3)
    file["net/meta/x"] = h5py.ExternalLink("other.h5", "/x")


def soft_link(file: h5py.File, folder: Path) -> None:
    file["net/meta/x"] = h5py.SoftLink("/net")


def linked_variable(file: h5py.File, folder: Path) -> None:
    file["other"] = h5py.ExternalLink("other.h5", "/x")


def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret.bin").write_bytes(SECRET)
    place = [(str(folder / "secret.bin"), 0, len(SECRET))]
    data = file["net/meta"].create_dataset("x", (1, len(SECRET)), "u1", external=place)
    data.attrs["MATLAB_class"] = np.bytes_("uint8")


def virtual_dataset(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    data = file["net/meta"].create_virtual_dataset("x", layout)
    data.attrs["MATLAB_class"] = np.bytes_("double")


def behind_a_reference(file: h5py.File, folder: Path) -> None:
    external_storage(file, folder)
    file["#refs#"].move("/net/meta/x", "x")
    references = np.array([[file["#refs#/x"].ref]], dtype=h5py.ref_dtype)
    cell = file["net/meta"].create_dataset("cell", data=references)
    cell.attrs["MATLAB_class"] = np.bytes_("cell")


def declared_only(file: h5py.File, folder: Path) -> None:
    shape, chunk = (1 << 20, 1 << 20), (1 << 10, 1 << 10)
    data = file["net/meta"].create_dataset("x", shape, "f8", chunks=chunk, compression="gzip")
    data.attrs["MATLAB_class"] = np.bytes_("double")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (external_link, "net/meta/x is a link"),
        (soft_link, "net/meta/x is a link"),
        (linked_variable, "other is a link"),
        (external_storage, "net/meta/x keeps its data in another file"),
        (virtual_dataset, "net/meta/x is a virtual dataset"),
        (behind_a_reference, "x keeps its data in another file"),
        (declared_only, "declares 8796093022208 bytes, but 0 are stored"),
    ],
)
def test_refused(good: Path, edit: Edit, reason: str) -> None:
    with h5py.File(good, "r+") as file:
        edit(file, good.parent)
    with pytest.raises(ReadError, match=reason) as caught:
        read(good)
    assert caught.value.path == str(good)


def test_not_matlabs(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["layer/kernel"] = np.zeros((3, 3))
    with pytest.raises(ReadError, match="an HDF5 file, but not one that MATLAB wrote"):
        read(path)


def test_what_a_net_does_not_need_is_no_obstacle(good: Path) -> None:
    with h5py.File(good, "r+") as file:
        handle = file["net/meta"].create_group("handle")
        handle.attrs["MATLAB_class"] = np.bytes_("function_handle")
        handle.attrs["MATLAB_object_decode"] = np.int32(1)
        sparse = file["net/meta"].create_group("sparse")
        sparse.attrs["MATLAB_class"] = np.bytes_("double")
        sparse.attrs["MATLAB_sparse"] = np.uint64(3)
        gpu = file["net/meta"].create_dataset("gpu", data=np.zeros((1, 6), np.uint32))
        gpu.attrs["MATLAB_class"] = np.bytes_("gpuArray")
        gpu.attrs["MATLAB_object_decode"] = np.int32(3)
        file["net/meta"].create_dataset("noise", data=np.zeros(2))
    assert [layer.name for layer in read(good).layers] == ["a"]
