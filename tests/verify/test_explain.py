"""Each planted mistake is named, alone and in pairs; a descriptor of another net is not explained.

The artifact is the seeded net's MatConvNet file, which NumPy runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from converters.errors import ConversionError, ReadError
from converters.mini import SPEC, mini, seeded
from verify import descriptor_file, regimes
from verify.__main__ import main
from verify.capture import Array
from verify.described import Described
from verify.explain import EXPLAINED, explain
from verify.hypotheses import Hypothesis, Stage, fitted, hypotheses
from verify.oracle import run
from verify.runners.matconvnet import MatConvNet

SIDEWAYS = 6  # EXIF: to be turned right by 90°


class Remembering:
    """The net, which runs each input once for all tests."""

    def __init__(self, net: MatConvNet) -> None:
        self.net = net
        self.known: dict[bytes, Mapping[str, Array]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def deployed(self, images: Array) -> Mapping[str, Array]:
        key = str((images.shape, images.dtype)).encode() + images.tobytes()
        if key not in self.known:
            self.known[key] = self.net.deployed(images)
        return self.known[key]


#: Of each: 16 numbers whitened, 128 as they are.
NET: Any = Remembering(MatConvNet(mini()))
PLAIN: Any = Remembering(MatConvNet(seeded(replace(SPEC, whitening=0), 3)))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of 44×60 pixels that lies on its side."""
    path = tmp_path_factory.mktemp("explain") / "picture.jpg"
    exif = Image.Exif()
    exif[0x112] = SIDEWAYS
    Image.fromarray(regimes.photograph(44, 60)[0]).save(path, quality=90, exif=exif)
    return path


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "larger.png"
    Image.fromarray(regimes.photograph(66, 100)[0]).save(path)
    return path


def bench(net: Any, picture: Path, length: int = 16) -> Described:
    from netvlad_keras.preprocess import load_image

    return Described(net, picture, load_image(picture), np.ones(length))


def rows(of: Described) -> dict[str, Hypothesis]:
    table = hypotheses(of.pixels.shape[:2], None, mean=True)
    return {row.name: row for row in table if of.applies(row)}


def planted(of: Described, *names: str, length: int = 16) -> Array:
    """The descriptor of somebody who makes these mistakes."""
    table = rows(of)
    steps = {table[name].stage: table[name] for name in names}
    vector = of._described(steps)
    last = steps.get(Stage.RESULT)
    return np.asarray(last.change(vector, length) if last else vector, np.float64)


def causes(net: Any, picture: Path, theirs: Array) -> list[list[str]]:
    found = explain(net, picture, theirs)
    return [[row.name for row in trial.hypotheses] for trial in found.causes]


#: What one mistake is called, with what this picture cannot tell it from.
SINGLES = {
    "exif": ["turned-90"],
    "draft-2": [],
    "ycbcr": [],
    "jpeg-75": [],
    "jpeg-95": [],
    "turned-90": ["exif"],
    "turned-180": [],
    "turned-270": [],
    "mirrored": [],
    "upside-down": [],
    "transposed": [],
    "half-its-size-bilinear": [],
    "half-its-size-bicubic": [],
    "half-its-size-lanczos": [],
    "half-its-size-nearest": [],
    "half-its-size-area": ["half-its-size-two-pixels"],
    "half-its-size-two-pixels": ["half-its-size-area"],
    "its-own-size-with-height-and-width-exchanged-bilinear": [],
    "bgr": [],
    "grey": [],
    "mean-twice": [],
    "mean-never": [],
    "mean-uint8": [],
    "mean-clipped": [],
    "mean-bgr": [],
    "mean-255": [],
    "mean-imagenet": [],
    "255": [],
    "255-never": [],
    "imagenet": [],
    "imagenet-instead": [],
    "minus-1-to-1": [],
    "minus-1-to-1-instead": [],
    "nchw": [],
    "nchw-after-mean": [],
    "nhwc": [],
    "nhwc-after-mean": [],
    "vlad-order": [],
    "not-normalised": [],
    "no-intranorm": [],
    "no-prel2": [],
    "float16": [],
    "decimals-3": [],
    "decimals-4": [],
}


@pytest.mark.parametrize("name", SINGLES)
def test_one_mistake_is_named(name: str, picture: Path) -> None:
    found = causes(NET, picture, planted(bench(NET, picture), name))
    assert [name] in found
    assert {tuple(each) for each in found} <= {(name,), *((other,) for other in SINGLES[name])}


def test_every_hypothesis_is_planted(picture: Path) -> None:
    elsewhere = {
        "no-whitening",  # their descriptor is longer
        "draft-4",  # 11×15 pixels are too few
        "decimals-5",  # in 16 numbers too little to be seen
    }
    untried = rows(bench(NET, picture)).keys() - SINGLES.keys() - elsewhere
    assert all(name.startswith("its-own-size-with-height") for name in untried)


@pytest.mark.parametrize(
    "name",
    [
        "224×224-bilinear",
        "224×224-bicubic",
        "224×224-nearest",
        "256×256-area",
        "256×256-two-pixels",
        "240×320-lanczos",
        "shorter-side-224-bilinear",
        "256-cut-224",
    ],
)
def test_a_size_is_named_with_its_filter(name: str, larger: Path) -> None:
    assert [name] in causes(NET, larger, planted(bench(NET, larger), name))


@pytest.mark.parametrize(
    "change", ["50×80-bicubic", "50×80-two-pixels", "50×80-exchanged", "50×80-padded",
               "50×80-cut", "not-resized"],
)  # fmt: skip
def test_a_size_that_was_agreed_on_is_made_otherwise(change: str, larger: Path) -> None:
    found = bench(NET, larger)
    size = (50, 80)
    table = {row.name: row for row in hypotheses((66, 100), size, mean=True)}
    theirs = np.asarray(found._described({Stage.SIZED: table[change]}), np.float64)
    trials = explain(NET, larger, theirs, size=size).causes
    assert [change] in [[row.name for row in trial.hypotheses] for trial in trials]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("bgr", "255"),
        ("bgr", "mean-never"),
        ("bgr", "imagenet-instead"),
        ("bgr", "vlad-order"),
        ("mean-twice", "float16"),
        ("half-its-size-nearest", "bgr"),
        ("exif", "mean-uint8"),
        ("255-never", "nchw"),
        ("vlad-order", "float16"),
        ("draft-2", "bgr"),
        ("mirrored", "no-intranorm"),
        ("grey", "not-normalised"),
        ("ycbcr", "decimals-4"),
        ("transposed", "bgr"),
    ],
)
def test_two_mistakes_are_named_together(first: str, second: str, picture: Path) -> None:
    found = causes(NET, picture, planted(bench(NET, picture), first, second))
    assert [first, second] in found
    assert all(second in pair for pair in found)  # but the EXIF may be a turn by hand


def test_what_is_left_of_the_distance_is_told(picture: Path) -> None:
    found = explain(NET, picture, planted(bench(NET, picture), "bgr"))
    assert found.before > 0.1
    assert found.causes[0].distance < 1e-7


def test_another_runtime_s_rounding_is_no_obstacle(picture: Path) -> None:
    pixels = bench(NET, picture).pixels[None]
    theirs = run(mini(), pixels[..., ::-1])["finalL2"][0]
    assert causes(NET, picture, theirs) == [["bgr"]]
    assert explain(NET, picture, run(mini(), pixels)["finalL2"][0]).same


def test_a_descriptor_from_other_weights_is_not_explained(picture: Path) -> None:
    pixels = bench(NET, picture).pixels[None]
    theirs = run(seeded(SPEC, 99), pixels)["finalL2"][0]
    found = explain(NET, picture, theirs)
    assert not found.causes
    assert not found.same
    assert found.pairs == found.possible > 1000
    assert found.nearest[0].distance > 100 * EXPLAINED


def test_the_budget_ends_it(picture: Path) -> None:
    theirs = planted(bench(NET, picture), "bgr", "255")
    found = explain(NET, picture, theirs, budget=0)
    assert (found.causes, found.pairs) == ((), 0)
    assert len(found.nearest) == 3


# ---------------------------------------------------------------- lengths; no whitening


def test_a_shorter_descriptor_is_cut_and_normalised(picture: Path) -> None:
    whole = planted(bench(NET, picture))
    assert explain(NET, picture, fitted(whole, 8)).same
    assert causes(NET, picture, whole[:8]) == [["not-renormalised"]]
    assert causes(NET, picture, planted(bench(NET, picture, 8), "bgr", length=8)[:8]) == [
        ["bgr", "not-renormalised"]
    ]


def test_a_longer_descriptor_was_not_whitened(picture: Path) -> None:
    theirs = planted(bench(NET, picture), "no-whitening")
    assert len(theirs) == 128
    found = explain(NET, picture, theirs)
    assert np.isinf(found.before)
    assert [row.name for row in found.causes[0].hypotheses] == ["no-whitening"]


@pytest.mark.parametrize("name", ["vlad-order", "not-normalised", "no-intranorm"])
def test_without_whitening_it_is_named_too(name: str, picture: Path) -> None:
    theirs = planted(bench(PLAIN, picture, 128), name, length=128)
    assert causes(PLAIN, picture, theirs) == [[name]]


def test_the_order_without_whitening_is_a_permutation(picture: Path) -> None:
    ours = planted(bench(PLAIN, picture, 128), length=128)
    theirs = planted(bench(PLAIN, picture, 128), "vlad-order", length=128)
    assert not np.array_equal(ours, theirs)
    np.testing.assert_array_equal(theirs, ours.reshape(16, 8).T.ravel())


# ---------------------------------------------------------------- files and the command


def write(folder: Path, name: str, vector: Array) -> Path:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, vector[None].astype(np.float32))
    elif name.endswith(".npz"):
        np.savez(path, allow_pickle=False, descriptor=vector, scores=np.ones(3))
    elif name.endswith(".mat"):
        scipy.io.savemat(path, {"descriptor": vector[:, None]})
    else:
        separator = "," if name.endswith(".csv") else "\n"
        path.write_text(separator.join(f"{value:.9g}" for value in vector))
    return path


@pytest.mark.parametrize("name", ["d.npy", "d.npz", "d.mat", "d.txt", "d.csv"])
def test_every_form_of_a_descriptor_is_read(name: str, tmp_path: Path) -> None:
    vector = np.random.default_rng(1).standard_normal(16)
    found = descriptor_file.read(write(tmp_path, name, vector))
    np.testing.assert_allclose(found, vector, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("d.txt", "1 2 three", "holds more than numbers"),
        ("d.txt", "", "shape"),
        ("d.csv", "1,nan", "NaN or infinity"),
        ("d.csv", "0,0,0", "nothing but zeros"),
        ("d.bin", "1 2", "not a capture that is known"),
    ],
)
def test_what_is_no_descriptor_is_refused(
    name: str, content: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ReadError, match=problem):
        descriptor_file.read(tmp_path / name)


@pytest.mark.parametrize("shape", [(2, 16), (1,), (4, 4, 16)])
def test_several_descriptors_are_not_one(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones(shape))
    with pytest.raises(ReadError, match="shape"):
        descriptor_file.read(tmp_path / "d.npy")


def test_the_command_names_the_cause(
    mini_mat: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "theirs.csv", planted(bench(NET, picture), "bgr"))
    words = ["explain", "--image", str(picture), "--descriptor", str(file), str(mini_mat)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "explained by: the channels in BGR order, as OpenCV reads them" in printed
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["causes"][0]["hypotheses"]] == ["bgr"]


def test_the_command_says_that_nothing_explains_it(
    mini_mat: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "theirs.npy", np.random.default_rng(5).standard_normal(16))
    words = ["explain", "--image", str(picture), "--descriptor", str(file), str(mini_mat)]
    assert main([*words, "--budget", "0"]) == 1
    printed = capsys.readouterr().out
    assert "none of what was tried explains it; the nearest:" in printed
    assert "0 of " in printed


def test_the_command_says_that_they_are_the_same(
    mini_mat: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "theirs.npy", planted(bench(NET, picture)))
    assert main(["explain", "--image", str(picture), "--descriptor", str(file), str(mini_mat)]) == 0
    assert "the same: there is nothing to explain" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["--image", "--descriptor"])
def test_what_is_not_there_cannot_be_explained(
    missing: str, mini_mat: Path, picture: Path, tmp_path: Path
) -> None:
    files = {"--image": picture, "--descriptor": write(tmp_path, "t.npy", np.ones(16))}
    files[missing] = tmp_path / "absent.npy"
    words = [str(word) for pair in files.items() for word in pair]
    assert main(["explain", *words, str(mini_mat)]) == 2


def test_a_picture_that_the_net_does_not_take_is_an_error(tmp_path: Path) -> None:
    Image.fromarray(regimes.photograph(8, 8)[0]).save(tmp_path / "small.png")
    with pytest.raises(ConversionError):
        explain(NET, tmp_path / "small.png", np.ones(16))
