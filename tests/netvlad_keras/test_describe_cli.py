"""The commands `describe`, `search` and `evaluate`: what they print, write and end with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netvlad_keras import results
from netvlad_keras.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
MakeOnnx = Callable[..., Path]


@pytest.fixture
def net(make_onnx: MakeOnnx) -> Path:
    return make_onnx()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# Refused.

SEARCH = ["search", "--database", "photographs", "--query"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["describe", "absent", "--model", "NET"], 1, "absent: there is no such file"),
        (["describe", "photographs", "--model", "x.onnx"], 1, "x.onnx: there is no such file"),
        (["describe", "photographs", "--model", "NET", "--dim", "4"], 1, "does not say whether"),
        (["describe", "photographs", "--model", "NET", "--output", "x.csv"], 1, "x.csv"),
        (["describe", "photographs", "--model", "NET", "--output", "file/x.npz"], 2, "written"),
        (["search", "--database", "photographs", "--query", "photographs"], 1, "no --model"),
        (["search", "--database", "a.npz", "--query", "b.npz"], 1, "a.npz: there is no such file"),
        (["evaluate", "photographs", "--model", "NET"], 1, "no dataset"),
        (["describe", "a.npz", "--model", "NET", "--output", "a.npz"], 1, "replaced"),
        (["evaluate", "photographs", "--model", "NET", "--radius", "1e200"], 1, "radius of 1e+200"),
        (["describe", "x" * 300, "--model", "NET"], 1, "File name too long"),
        (["describe", "photographs", "--model", "NET", "--workers", "2"], 1, "for --engine ray"),
        (
            [*SEARCH, "photographs", "--model", "NET", "--picture", "x.pdf"],
            1,
            "x.pdf: a picture is",
        ),
        ([*SEARCH, "a.npz", "photographs", "--model", "NET"], 1, "or one file of descriptors"),
        (
            ["search", "--database", "a.npz", "--query", "b.npz", "--dim", "4"],
            1,
            "only descriptors",
        ),
    ],
)
def test_what_is_refused(
    words: list[str],
    code: int,
    said: str,
    net: Path,
    photographs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("file").write_text("")
    given = [str(net) if word == "NET" else word for word in words]
    ended, out, err = _run(capsys, *given)
    assert (ended, out) == (code, "")
    assert err.startswith("netvlad-describe: ")
    assert said in err
    ended, out, _ = _run(capsys, *given, "--json")
    assert ended == json.loads(out)["exit"] == code


@pytest.mark.parametrize("words", [["--size", "0x9"], ["--batch", "0"], ["--size", "9"]])
def test_arguments_that_make_no_sense(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["describe", "x", "--model", "y", *words])
    assert caught.value.code == 2


# Describe.


def test_describe(net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _run(capsys, "describe", "photographs", "--model", net)
    assert (code, out) == (0, "11 images described; descriptors.npz\n")
    assert "descriptors: 11 of 11, " in err
    assert "images/s" in err
    found = results.read("descriptors.npz")
    assert found.paths[0] == "photographs/00.png"  # as it was named, with / everywhere
    assert found.vectors.shape == (11, 8)


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_an_unreadable_image_is_named_in_the_last_line(
    strict: tuple[str, ...],
    code: int,
    net: Path,
    photographs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photographs / "03.png").write_bytes(b"no image")
    ended, out, err = _run(capsys, "describe", "photographs", "--model", net, *strict)
    assert ended == code
    assert out == "10 images described, 1 LEFT OUT (photographs/03.png); descriptors.npz\n"
    assert "photographs/03.png: not an image file that Pillow can identify" in err


# Search.


def test_search_prints_a_ranking_and_draws_it(
    net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = Path("twin.png")
    twin.write_bytes((photographs / "04.png").read_bytes())
    words = ["search", "--database", "photographs", "--query", twin, "--model", net, "--top", "3"]
    code, out, _ = _run(capsys, *words)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "twin.png"
    assert lines[1] == "    1  0.0000  photographs/04.png"
    assert len(lines) == 5
    assert lines[-1] == "1 queries, 11 images; matches.png"
    with Image.open("matches.png") as picture:
        assert picture.width > 4 * 320
    found = json.loads(_run(capsys, *words, "--json", "--no-picture")[1])
    distances = [match["distance"] for match in found["queries"][0]["matches"]]
    assert distances == sorted(distances)
    assert found["picture"] is None


def test_an_image_does_not_find_itself(
    net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = photographs / "00.png"
    words = ["search", "--database", "photographs", "--query", query, "--model", net]
    found = json.loads(_run(capsys, *words, "--json", "--top", "99")[1])
    (row,) = found["queries"]
    assert len(row["matches"]) == 10
    (photographs / "again.png").symlink_to(query)
    (photographs / "0.png").symlink_to(query)
    found = json.loads(_run(capsys, *words, "--json", "--top", "10")[1])
    assert len(found["queries"][0]["matches"]) == 10
    assert not any(
        "again" in m["path"] or "/0.png" in m["path"] for m in found["queries"][0]["matches"]
    )
    assert not any(match["path"].endswith("00.png") for match in row["matches"])


def test_described_images_are_searched_without_a_model(
    net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, "describe", "photographs", "--model", net, "--output", "a.npz")
    code, with_model, _ = _run(
        capsys, "search", "--database", "a.npz", "--query", "photographs", "--model", net
    )
    assert code == 0
    code, without, _ = _run(capsys, "search", "--database", "a.npz", "--query", "a.npz")
    assert code == 0
    assert without == with_model


def test_descriptors_of_two_makings_are_not_compared(
    net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, "describe", "photographs", "--model", net, "--output", "a.npz")
    words = ["search", "--database", "a.npz", "--query", "photographs", "--model", net]
    code, _, err = _run(capsys, *words, "--longer-side", "16")
    assert code == 1
    assert "described in another way than the queries: resize" in err


def test_the_picture_is_of_the_format_that_its_name_says(
    net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SEARCH, "photographs", "--model", net, "--picture"]
    for name, kind in (("m.jpg", "JPEG"), ("m.webp", "WEBP"), ("m.PNG", "PNG")):
        assert _run(capsys, *words, name)[0] == 0
        with Image.open(name) as picture:
            assert picture.format == kind


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_names_of_several_lines(
    net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "00.png").rename(photographs / "a\nb.png")
    assert _run(capsys, *SEARCH, "photographs", "--model", net)[0] == 0
    assert Path("matches.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_names_need_not_be_utf8(
    net: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A `.parquet` cannot hold such a name: the image is left out and named."""
    odd = os.fsdecode(b"photographs/b\xe4r.png")
    (photographs / "00.png").rename(odd)
    code, out, _ = _run(capsys, "describe", "photographs", "--model", net)
    assert (code, out) == (0, "11 images described; descriptors.npz\n")
    assert results.read("descriptors.npz").paths[-1] == odd
    pytest.importorskip("pyarrow")
    code, out, _ = _run(capsys, "describe", "photographs", "--model", net, "--output", "a.parquet")
    assert code == 0
    assert out == "10 images described, 1 LEFT OUT (photographs/b\\udce4r.png); a.parquet\n"
    assert results.read("a.parquet").faults[odd].startswith("its name is not UTF-8")


# Evaluate.


def _dataset(root: Path, *, shuffled: bool = False) -> Path:
    """Eight places 100 m apart; each query is its place's image with a little noise."""
    rng = np.random.default_rng(9)
    shown = rng.permutation(8) if shuffled else np.arange(8)
    scenes = [np.repeat(np.repeat(rng.integers(0, 256, (6, 8, 3)), 4, 0), 4, 1) for _ in range(8)]
    for name, order in (("database", np.arange(8)), ("queries", shown)):
        folder = root / "images" / "test" / name
        folder.mkdir(parents=True)
        for place, scene in enumerate(order):
            noise = rng.integers(-3, 4, (24, 32, 3)) if name == "queries" else 0
            pixels = np.clip(scenes[scene] + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(
                folder / f"@{5e5 + 100 * place:.1f}@4500000.0@{place}@.png"
            )
    return root


def test_evaluate(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _dataset(Path("places"))
    code, out, err = _run(capsys, "evaluate", "places", "--model", net)
    assert code == 0
    assert "recall@1   100.00 %   chance 12.50 %" in out
    assert "8 queries, 8 images, 25 m; evaluation/recall.json, evaluation/recall.png" in out
    assert "warning" not in err
    found: dict[str, Any] = json.loads(Path("evaluation/recall.json").read_text())
    assert found["recall"] == {"1": 1.0, "5": 1.0}
    assert found["curve"] == [1.0] * 8
    assert found["chance"]["1"] == pytest.approx(1 / 8)
    assert found["radius"] == 25.0
    with Image.open("evaluation/recall.png") as picture:
        assert picture.size == (960, 640)


def test_a_recall_at_chance_is_warned_of(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _dataset(Path("places"), shuffled=True)
    code, _, err = _run(capsys, "evaluate", "places", "--model", net)
    assert code == 0
    assert "warning: recall@1 cannot be told from chance" in err


def test_an_evaluation_describes_once(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _dataset(Path("places"))
    broken = next(Path("places/images/test/database").glob("*@7@.png"))
    broken.write_bytes(b"no image")
    words = ["evaluate", "places", "--model", net]
    _, out, err = _run(capsys, *words)
    assert "kept" not in err
    assert "8 queries, 7 images, 25 m, 1 LEFT OUT" in out
    _, again, err = _run(capsys, *words, "--radius", "150")
    assert err.count("kept from an earlier run") == 2
    assert "150 m" in again
    assert "kept" not in _run(capsys, *words, "--longer-side", "20")[2]
    assert "kept" not in _run(capsys, *words, "--longer-side", "20", "--restart")[2]


def test_an_image_that_changed_is_described_again(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was broken, and is mended by a copy with an older time."""
    _dataset(Path("places"))
    image = next(Path("places/images/test/database").glob("*@7@.png"))
    whole, times = image.read_bytes(), (image.stat().st_atime_ns, image.stat().st_mtime_ns)
    image.write_bytes(b"no image")
    words = ["evaluate", "places", "--model", net]
    assert "8 queries, 7 images, 25 m, 1 LEFT OUT" in _run(capsys, *words)[1]
    image.write_bytes(whole)
    os.utime(image, ns=times)
    _, out, err = _run(capsys, *words)
    assert err.count("kept from an earlier run") == 1
    assert "8 queries, 8 images, 25 m;" in out


def test_other_images_are_described_again(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _dataset(Path("places"))
    _run(capsys, "evaluate", "places", "--model", net)
    next(Path("places/images/test/queries").glob("*@7@.png")).unlink()
    _, out, err = _run(capsys, "evaluate", "places", "--model", net)
    assert err.count("kept from an earlier run") == 1
    assert "7 queries" in out


# Real photographs.


@pytest.fixture(scope="session")
def offtheshelf() -> Path:
    name = "vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra"
    model = ROOT / "artifacts" / name / "model.onnx"
    if not model.is_file():
        pytest.skip("artifacts/ holds no off-the-shelf net: run nox -s convert")
    return model


def _nearest(model: Path, query: Path, database: Path, capsys: Any) -> dict[str, str]:
    words = ["search", "--database", database, "--query", query, "--model", model, "--json"]
    found = json.loads(_run(capsys, *words, "--longer-side", "320")[1])
    return {
        Path(row["query"]).stem: Path(row["matches"][0]["path"]).stem for row in found["queries"]
    }


def test_the_query_finds_its_place(
    offtheshelf: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = shared_data / "images" / "netvlad_keras"
    assert _nearest(offtheshelf, images / "query.jpg", images, capsys) == {"query": "db1"}


def test_views_of_a_building_find_each_other(
    offtheshelf: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = shared_data / "images" / "same_building"
    found = _nearest(offtheshelf, images, images, capsys)
    assert {name for name in "2347" if found[name] in set("2347") - {name}} == set("2347")
