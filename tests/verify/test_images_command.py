"""`netvlad-verify images` as people type it, on sets whose ground truth is known."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters.mini import SPEC, seeded
from converters.writers.sources import matconvnet
from verify import regimes
from verify.__main__ import main
from verify.capture import Array
from verify.images import describe, listed
from verify.ranking import Described, compare

#: Whitened to more than 128 dimensions, so that there is something to crop.
WIDE = replace(SPEC, whitening=160)


def place(seed: int, height: int, width: int) -> Image.Image:
    return Image.fromarray(regimes.photograph(height, width, seed=seed)[0])


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """Five places 100 m apart; three of them again, a little brighter, 5 m beside."""
    for folder in ("database", "queries"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        picture = place(number, 48, 64)
        picture.save(tmp_path / "database" / f"@{100 * number}@4500000@{number}@.png")
        if number < 3:
            brighter = picture.point(lambda value: value + 2)
            brighter.save(tmp_path / "queries" / f"@{100 * number + 5}@4500000@{number}@.png")
    return ["--database", str(tmp_path / "database"), "--queries", str(tmp_path / "queries")]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A wide net, the same with one filter's sign changed, and another net."""
    folder = tmp_path_factory.mktemp("nets")
    net = seeded(WIDE, 1)
    kernel = net.tensors["conv4_1/weights/0"].copy(order="F")
    kernel[..., 3] *= -1
    flipped = replace(net, tensors={**net.tensors, "conv4_1/weights/0": kernel})
    for name, each in {"net": net, "flipped": flipped, "other": seeded(WIDE, 2)}.items():
        matconvnet.write(each, folder / f"{name}.mat")
    return {path.stem: str(path) for path in folder.iterdir()}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_the_source_and_its_onnx_file_agree(
    sets: list[str],
    mini_mat: Path,
    mini_artifacts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["images", str(mini_mat), str(mini_artifacts / "model.onnx"), *sets]) == 0
    text = said(capsys)
    assert "5 images, 3 queries, 0 unreadable: the artifacts agree" in text
    assert "recall@1/5" in text
    assert "100.00 / 100.00 +0.00 / +0.00" in text


def test_crops_are_compared_and_every_image_is_written_down(
    sets: list[str], nets: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["images", nets["net"], nets["flipped"], *sets, "--csv", str(tmp_path / "all.csv")]
    assert main(words) == 1
    assert "the artifacts do not agree" in said(capsys)
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dimensions"] for row in rows] == ["128"] * 8 + ["160"] * 8
    assert {Path(row["image"]).parent.name for row in rows} == {"database", "queries"}
    assert all(float(row["l2"]) > 1e-4 and 0 < float(row["cosine"]) < 1 for row in rows)


def test_recall_and_its_change(
    sets: list[str], nets: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = tmp_path / "queries" / "@9000@4500000@3@.png"
    place(3, 48, 64).save(far)  # as in the database, but elsewhere: a miss
    assert main(["images", nets["net"], nets["other"], *sets, "--top", "2"]) == 1
    text = said(capsys)
    assert "top-2" in text
    assert "75.00 / 75.00 +0.00 / +0.00" in text


def test_a_broken_image_is_named_counted_and_not_fatal(
    sets: list[str], nets: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "database" / "@0@0@cut@.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "queries" / "@0@0@text@.png").write_text("no picture")
    twin = tmp_path / "twin.mat"
    twin.write_bytes(Path(nets["net"]).read_bytes())
    assert main(["images", nets["net"], str(twin), *sets, "--size", "40x56"]) == 0
    text = said(capsys)
    assert "not read: " in text
    assert "@0@0@cut@.jpg: " in text
    assert "@0@0@text@.png: not an image file" in text
    assert "5 images, 3 queries, 2 unreadable: the artifacts agree" in text


def test_without_positions_there_is_no_recall(
    sets: list[str], nets: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place(7, 48, 64).save(tmp_path / "database" / "somewhere.png")
    assert main(["images", nets["net"], nets["flipped"], *sets]) == 1
    assert "recall@N" in said(capsys)


def test_photographs(
    mini_mat: Path,
    mini_artifacts: Path,
    shared_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(shared_data / "images" / "same_building")
    words = ["images", str(mini_mat), str(mini_artifacts / "model.onnx"), "--size", "96x128"]
    assert main([*words, "--database", folder, "--queries", folder]) == 0
    assert "7 images, 7 queries, 0 unreadable: the artifacts agree" in said(capsys)


@pytest.mark.parametrize(
    ("artifacts", "words", "reason"),
    [
        (["net"], [], "one artifact agrees with itself"),
        (["net", "net"], [], "one artifact agrees with itself"),
        (["net", "nowhere"], [], "nowhere: does not exist"),
        (["net", "other"], ["--database", "nowhere"], "nowhere: no images"),
        (["net", "other"], ["--size", "8x8"], ".png: "),
        (["net", "other"], ["--csv", "no/folder/all.csv"], "all.csv: cannot be written"),
    ],
)
def test_what_cannot_be_compared(
    artifacts: list[str],
    words: list[str],
    reason: str,
    sets: list[str],
    nets: Mapping[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["images", *(nets.get(name, name) for name in artifacts), *sets, *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_file_of_weights_describes_nothing(
    sets: list[str],
    nets: Mapping[str, str],
    mini_artifacts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["images", nets["net"], str(mini_artifacts / "model.weights.h5"), *sets]) == 2
    assert "holds weights alone" in capsys.readouterr().err


def test_a_set_of_nothing_but_broken_images(
    sets: list[str], nets: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "queries").iterdir():
        path.write_text("no picture")
    assert main(["images", nets["net"], nets["other"], *sets]) == 2
    assert "none of the images could be read: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--size", "48"], ["--size", "0x64"], ["--size", "-1x4"], ["--top", "0"]]
)
def test_bad_numbers_are_refused(
    words: list[str], sets: list[str], nets: Mapping[str, str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["images", nets["net"], nets["other"], *sets, *words])
    assert stopped.value.code == 2


class MeanColour:
    """Describes an image by its mean colour."""

    def deployed(self, images: Array) -> Mapping[str, Array]:
        return {"descriptor": images.mean(axis=(1, 2), dtype=np.float32)}


def peak(folder: Path, count: int) -> int:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (256, 256), (number, 0, 0)).save(folder / f"{number:03d}.png")
    tracemalloc.start()
    try:
        describe(MeanColour(), listed(folder))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_nothing_is_kept_but_descriptors(tmp_path: Path) -> None:
    few, many = peak(tmp_path / "few", 4), peak(tmp_path / "many", 44)
    assert many - few < 256 * 256 * 3  # 40 images more cost less than one


def test_no_table_of_queries_times_images_is_kept() -> None:
    rows = np.random.default_rng(1).standard_normal((1500, 4)).astype(np.float32)
    side = Described(tuple(Path(f"@{i}@0@.png") for i in range(1500)), rows, {})
    tracemalloc.start()
    try:
        gate = compare({"a": (side, side), "b": (side, side)})
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert gate.passed
    assert most < 1500 * 1500 * 8 / 2
