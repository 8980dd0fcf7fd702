"""Where a net is in a .mat file, its mean and settings, and files that hold none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import MEAN, Array, Layer
from converters.errors import ReadError
from converters.readers.matconvnet import read

Save = Callable[..., Path]
RNG = np.random.default_rng(7)


def single(*shape: int) -> Array:
    return RNG.standard_normal(shape, dtype=np.float32)


FILTERS, BIASES = single(3, 3, 3, 8), single(1, 8)


def conv(name: str = "conv1", **fields: Any) -> dict[str, Any]:
    return {"type": "conv", "name": name, "weights": [FILTERS, BIASES]} | fields


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>404 Not Found</html>" * 50, "begins with b'<html>404"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM", "no net inside"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\x0f\0\0\0", "cannot be parsed"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "cannot be parsed"),
    ],
)
def test_not_a_net_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "net.mat"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=reason) as caught:
        read(path)
    assert caught.value.path == str(path)
    assert caught.value.advice


def test_absent_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="does not exist"):
        read(tmp_path / "absent.mat")
    with pytest.raises(ReadError, match="directory"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_truncated(save: Save, kept: float) -> None:
    path = save(net={"layers": [conv(weights=[single(9, 9, 32, 32), single(1, 32)])]})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ReadError, match="cannot be parsed"):
        read(path)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"opts": {"a": 1.0}, "x": 1.0}, r"no net inside.* opts \(struct\), x \(double\)"),
        ({"net": 3.0}, r"no net inside.* net \(double\)"),
        ({"net": {"meta": {"a": 1.0}}}, "no net inside"),
        ({"net": {"layers": []}}, "net has no layers"),
        ({"a": {"layers": [conv()]}, "b": {"layers": [conv()]}}, "2 nets: a, b"),
        ({"net": {"layers": [], "vars": {"name": "x"}}}, "net has no layers"),
        ({"net": "imagenet-vgg-f", "opts": {"a": 1.0}}, r"no net inside.* net \(char\)"),
    ],
)
def test_no_net(save: Save, variables: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReadError, match=reason):
        read(save(**variables))


def test_mean_that_is_not_finite(save: Save) -> None:
    mean = np.full((1, 1, 3), np.nan, np.float32)
    meta = {"normalization": {"averageImage": mean}}
    with pytest.raises(ReadError, match="averageImage: 3 of 3 values are NaN"):
        read(save(net={"layers": [conv()], "meta": meta}))


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"net": {"layers": [conv()], "meta": {}}}, id="net"),
        pytest.param({"opts": {"a": 1.0}, "model": {"layers": [conv()]}}, id="other name"),
        pytest.param({"net": {"layers": [conv()]}, "b": {"layers": [conv()]}}, id="net wins"),
        pytest.param({"layers": [conv()], "meta": {"a": 1.0}, "x": 1.0}, id="top level"),
        pytest.param({"layers": [conv()], "net": {"a": 1.0}}, id="top level beside a net of none"),
        pytest.param({"net": "vgg", "model": {"layers": [conv()]}}, id="net is a text"),
        pytest.param(
            {
                "info": {"a": 1.0},
                "state": {"b": [1.0]},
                "net": {"layers": [conv()]},
                "stats": [1.0],
            },
            id="beside what training leaves",
        ),
        pytest.param({"net": {"layers": [conv()], "params": {"lr": 1.0}}}, id="with params"),
        pytest.param({"net": {"layers": (conv(),)}}, id="struct array of one"),
        pytest.param({"net": {"layers": conv()}}, id="a struct"),
    ],
)
def test_where_the_net_is(save: Save, variables: dict[str, Any]) -> None:
    path = save(**variables)
    found = read(path)
    assert found.layers == (
        Layer(
            "conv1",
            "conv",
            ("input",),
            ("conv1/weights/0", "conv1/weights/1"),
            {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (1, 1)},
        ),
    )
    np.testing.assert_array_equal(found.tensors["conv1/weights/0"], FILTERS)
    np.testing.assert_array_equal(found.tensors["conv1/weights/1"], BIASES[0])
    assert found.origin.format == "matconvnet"
    assert found.origin.files == (path,)
    assert found.origin.path == path


def test_old_layout(save: Save) -> None:
    old = conv(filters=FILTERS, biases=BIASES.T.copy())
    del old["weights"]
    normalization = {"averageImage": single(4, 5, 3), "imageSize": np.array([[4.0, 5, 3]])}
    found = read(
        save(
            net={
                "layers": [old],
                "normalization": normalization | {"interpolation": "bicubic", "keepAspect": 1},
                "sessionID": "vd16_offtheshelf",
                "netID": "vd16",
                "epoch": 3,
            }
        )
    )
    np.testing.assert_array_equal(found.tensors["conv1/weights/1"], BIASES[0])
    np.testing.assert_array_equal(found.tensors[MEAN], normalization["averageImage"])
    assert found.preprocessing == {
        "imageSize": (4, 5, 3),
        "interpolation": "bicubic",
        "keepAspect": 1,
    }
    assert found.origin.session == "vd16_offtheshelf"
    assert found.origin.notes == (
        "upgraded: conv1, filters and biases are now weights",
        "upgraded: the net's normalization is now meta.normalization",
    )


def test_fields_of_the_net_that_are_not_carried_are_told(save: Save) -> None:
    net = {"layers": [conv()], "imageMean": 122.5, "classes": ["a"], "thresholds": [1.0]}
    assert read(save(net=net)).origin.notes == ("left out: imageMean, thresholds of the net",)


@pytest.mark.parametrize(
    ("channels", "image", "shape"),
    [
        (3, (4, 5, 3), (4, 5, 3)),
        (3, (1, 1, 3), (1, 1, 3)),
        (3, (3, 1), (1, 1, 3)),
        (3, (1, 3), (1, 1, 3)),
        (3, (1, 1), (1, 1, 1)),
        (1, (1, 1), (1, 1, 1)),
        (1, (4, 5), (4, 5, 1)),
        (1, (1, 3), (1, 3, 1)),
        (3, (0, 0), None),
    ],
)
def test_mean(
    save: Save, channels: int, image: tuple[int, ...], shape: tuple[int, ...] | None
) -> None:
    mean = single(*image)
    layer = conv(weights=[single(3, 3, channels, 8), BIASES])
    meta = {"normalization": {"averageImage": mean}}
    found = read(save(net={"layers": [layer], "meta": meta})).tensors.get(MEAN)
    assert (None if found is None else found.shape) == shape
    if found is not None:
        np.testing.assert_array_equal(found.ravel(), mean.ravel())


def test_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "net.mat"

    def element(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(4) + len(data).to_bytes(4) + data + b"\0" * (-len(data) % 8)

    def matrix(kind: int, name: bytes, *parts: bytes) -> bytes:
        flags = element(6, kind.to_bytes(4) + bytes(4))
        head = flags + element(5, b"\0\0\0\1" * 2) + element(1, name)
        return element(14, head + b"".join(parts))

    def struct(name: bytes, fields: dict[bytes, bytes]) -> bytes:
        names = b"".join(field.ljust(32, b"\0") for field in fields)
        size = element(5, (32).to_bytes(4))
        return matrix(2, name, size, element(1, names), *fields.values())

    def text(value: bytes) -> bytes:
        flags = element(6, (4).to_bytes(4) + bytes(4))
        shape = element(5, (1).to_bytes(4) + len(value).to_bytes(4))
        return element(14, flags + shape + element(1, b"") + element(16, value))

    bias = matrix(7, b"", element(7, np.array([1.5], ">f4").tobytes()))
    fields = {b"type": text(b"conv"), b"filters": bias, b"biases": bias}
    net = struct(b"net", {b"layers": struct(b"", fields)})
    path.write_bytes(b"MATLAB 5.0 MAT-file, big-endian".ljust(124) + b"\x01\x00MI" + net)
    found = read(path).tensors
    assert found["layer1/weights/1"].dtype == np.dtype("=f4")
    assert found["layer1/weights/1"].tolist() == [1.5]
