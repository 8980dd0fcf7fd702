"""What artifacts are compared on, as asked for on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.checkpoint import MEAN, Checkpoint
from converters.errors import ConversionError, ReadError
from converters.mini import mini
from verify import regimes
from verify.capture import Array
from verify.inputs import Inputs, channels, contract, value_range

MANIFEST: Mapping[str, Any] = {
    "inputs": [{"name": "image", "shape": ["batch", "height", "width", 3], "range": [0, 1],
                "minimum_height": 16, "minimum_width": 20}]
}  # fmt: skip


def asked(**options: Any) -> Inputs:
    every = {"inputs": None, "all_inputs": False, "image": None, "images": None}
    every |= {"database": None, "queries": None}
    return Inputs.asked(argparse.Namespace(**{**every, "input_range": None, **options}))


def batches(inputs: Inputs, manifest: Mapping[str, Any], net: Checkpoint) -> dict[str, Array]:
    """What a net of one input is given."""
    found: dict[str, Array] = {}
    for name, images in inputs.made(manifest, net).items():
        assert isinstance(images, np.ndarray)
        found[name] = images
    return found


def picture(path: Path, height: int = 30, width: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(regimes.photograph(height, width)[0]).save(path)
    return path


def grey() -> Checkpoint:
    """A net that reads one channel, without a mean."""
    source = mini()
    first = source.layers[0].params[0]
    tensors = {**source.tensors, first: source.tensors[first][:, :, :1]}
    return replace(source, tensors={n: t for n, t in tensors.items() if n != MEAN})


@pytest.mark.parametrize(
    "text", ["", "1", "1,1", "2,1", "a,b", "0,1,2", "nan,1", "0,nan", "0,inf", "-inf,0"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ConversionError, match="is not a range A,B"):
        value_range(text)


def test_a_range() -> None:
    assert value_range("-1,0.5") == (-1.0, 0.5)


def test_an_input_that_there_is_not_is_named() -> None:
    with pytest.raises(ConversionError, match="'sunset', 'dawn'"):
        asked(inputs="black,sunset,dawn")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
        ("text.png", b"no picture"),
        ("header.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        ("empty.bmp", b""),
    ],
)
def test_a_broken_picture_among_good_ones_is_named(
    name: str, content: bytes, tmp_path: Path
) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError, match=name):
        asked(images=tmp_path)


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    path = picture(tmp_path / "half.png")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ReadError, match=r"half\.png"):
        asked(images=tmp_path)


def test_an_empty_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no images"):
        asked(images=tmp_path)


def test_by_default_three_and_all_where_all_are_asked_for() -> None:
    assert tuple(asked().made({}, mini())) == ("photograph", "black", "odd")
    every = batches(asked(all_inputs=True), {}, mini())
    assert tuple(every) == regimes.ALL
    assert {"noise", "white", "constant", "batch_of_3", "smallest"} <= every.keys()
    assert every["batch_of_3"].shape[0] == 3
    assert every["smallest"].shape[1:3] == (16, 16)  # four pools in halves


def test_pictures_go_by_their_files_names(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "street.png")
    picture(tmp_path / "set" / "night" / "street.png", 40, 50)
    other = picture(tmp_path / "other" / "street.png", 24, 24)
    found = batches(asked(inputs="black", images=tmp_path / "set", image=other), {}, mini())
    assert {name: images.shape[1:3] for name, images in found.items()} == {
        "black": (96, 128),
        "night/street.png": (40, 50),
        "street.png": (30, 40),
        str(other): (24, 24),
    }


def test_a_picture_that_is_too_small_for_the_net(tmp_path: Path) -> None:
    picture(tmp_path / "tiny.png", 20, 15)
    with pytest.raises(ConversionError, match="20×15 is too small"):
        batches(asked(images=tmp_path), {}, mini())


def test_the_contract_is_the_manifest_s() -> None:
    found = contract(MANIFEST, mini())
    assert (found.channels, found.low, found.high, found.smallest) == (3, 0.0, 1.0, (16, 20))
    assert contract(MANIFEST, mini(), (-1.0, 2.0)).low == -1.0
    white = batches(asked(inputs="white"), MANIFEST, mini())["white"]
    assert white.dtype == np.float32
    assert white.max() == 1.0


def test_without_a_manifest_it_is_the_source_s() -> None:
    assert channels(mini()) == 3
    assert channels(grey()) == 1
    assert batches(asked(inputs="black"), {}, grey())["black"].shape == (1, 96, 128, 1)
    spread = batches(asked(inputs="photograph", input_range="-1,1"), {}, grey())["photograph"]
    assert spread.dtype == np.float32
    assert -1.0 <= spread.min() < -0.5
    assert 0.5 < spread.max() <= 1.0


def test_a_fixed_size_leaves_out_what_cannot_have_it(tmp_path: Path) -> None:
    fixed = {**MANIFEST, "onnx": {"size": [40, 52], "batch": 2}}
    assert list(asked().made(fixed, mini())) == ["photograph", "black"]
    every = batches(asked(all_inputs=True), fixed, mini())
    assert {images.shape for images in every.values()} == {(2, 40, 52, 3)}
    assert "odd" in batches(asked(inputs="odd"), fixed, mini())
    picture(tmp_path / "a.png", 40, 52)
    assert batches(asked(images=tmp_path), fixed, mini())["a.png"].shape == (2, 40, 52, 3)
    picture(tmp_path / "b.png")
    with pytest.raises(ConversionError, match="30×40 pixels, but the ONNX file was made for 40×52"):
        batches(asked(images=tmp_path), fixed, mini())
