"""`netvlad-verify` as people type it, on what a conversion made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.__main__ import main as convert
from converters.checkpoint import MEAN
from converters.mini import mini
from converters.writers.sources import matconvnet
from verify import regimes
from verify.__main__ import main
from verify.witness import NEAR_ZERO


@pytest.fixture
def folder(mini_artifacts: Path, mini_mat: Path, tmp_path: Path) -> Path:
    """A conversion's folder with its ONNX file alone, the source where the manifest says."""
    made = tmp_path / "artifacts" / "mini"
    made.mkdir(parents=True)
    shutil.copy(mini_mat, tmp_path / "mini.mat")
    manifest = json.loads((mini_artifacts / "manifest.json").read_text())
    manifest["files"] = {"model.onnx": manifest["files"]["model.onnx"]}
    manifest["source"]["files"][0]["path"] = "../../mini.mat"
    (made / "manifest.json").write_text(json.dumps(manifest))
    shutil.copy(mini_artifacts / "model.onnx", made)
    return made


def test_a_faithful_folder_passes_and_leaves_reports(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder.parent), "--inputs", "photograph"]) == 0
    assert "no difference" in capsys.readouterr().out
    names = {path.name for path in (folder / "report").iterdir()}
    assert names == {"report.html", "report.json", "report.xml", "report.md", "inputs.npz"}
    assert json.loads((folder / "report" / "report.json").read_text())["verdict"]["passed"] is True


def test_another_net_s_file_fails_by_layer_and_checksum(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx")
    kernel = next(t for t in model.graph.initializer if t.name == "conv2_1/kernel")
    values = onnx.numpy_helper.to_array(kernel).copy()
    values[3, 2, 1, 0] *= 1.5
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    onnx.save(model, folder / "model.onnx")
    assert main(["check", str(folder), "--inputs", "photograph"]) == 1
    verdict = json.loads((folder / "report" / "report.json").read_text())["verdict"]
    assert verdict["passed"] is False
    assert verdict["first_bad_layer"] == "conv2_1"
    assert verdict["tensor"] == "conv2_1/kernel"
    assert "model.onnx" in capsys.readouterr().out
    kept = folder / "report" / "repro" / "model.onnx-conv2_1"
    assert (kept / "model.onnx").is_file()
    found = onnx.load_tensor(kept / "test_data_set_0" / "found_0.pb")
    expected = onnx.load_tensor(kept / "test_data_set_0" / "output_0.pb")
    assert found.dims == expected.dims
    assert found.raw_data != expected.raw_data


def test_without_its_source_nothing_can_be_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mini.mat").unlink()
    assert main([str(folder)]) == 2
    assert "mini.mat" in capsys.readouterr().err
    assert not (folder / "report").exists()


def test_artifacts_of_any_origin(mini_artifacts: Path, mini_mat: Path, tmp_path: Path) -> None:
    artifact = str(mini_artifacts / "model.onnx")
    words = ["check", "--reference", str(mini_mat), artifact, "--inputs", "photograph"]
    assert main([*words, "--report", str(tmp_path)]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("module", "parameter", "tensor"),
    [
        ("hloc", "netvlad.centers", "vlad:core/centers"),
        ("pytorch-netvlad", "WPCA.0.weight", "WPCA/kernel"),
    ],
)
def test_what_goes_back_is_compared_and_is_a_source(
    module: str, parameter: str, tensor: str, mini_artifacts: Path, mini_mat: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    file = tmp_path / "net.safetensors"
    words = ["back", "--source", str(mini_mat), "--to", module, "--output", str(file)]
    assert convert([*words, "--any-size"]) == 0
    ends = ["--inputs", "black", "--report", str(tmp_path)]
    onnx = str(mini_artifacts / "model.onnx")
    assert main(["check", "--reference", str(mini_mat), str(file), *ends]) == 0
    assert len(found(tmp_path)["regimes"][0]["columns"][0]["weights"]) == 31
    assert main(["check", "--reference", str(file), str(mini_mat), onnx, *ends]) == 0

    with safe_open(file, framework="numpy") as stored:
        weights, metadata = {n: stored.get_tensor(n) for n in stored.keys()}, stored.metadata()  # noqa: SIM118
    weights[parameter][1, 2] *= 1.001
    save_file(weights, file, metadata)
    assert main(["check", "--reference", str(mini_mat), str(file), *ends]) == 1
    assert found(tmp_path)["verdict"]["tensor"] == tensor


def test_a_run_is_repeated_on_the_inputs_that_its_report_kept(folder: Path, tmp_path: Path) -> None:
    pixels = regimes.photograph(40, 56, seed=9)
    Image.fromarray(pixels[0]).save(tmp_path / "mine.png")
    words = ["--inputs", "photograph,black", "--image", str(tmp_path / "mine.png")]
    assert main([str(folder), *words]) == 0
    first = found(folder)["regimes"]
    kept = folder / "report" / "inputs.npz"
    with np.load(kept) as arrays:
        assert list(arrays) == ["photograph", "black", "mine.png"]
        assert np.array_equal(arrays["mine.png"], pixels)
        shutil.copy(kept, tmp_path / "kept.npz")
    (tmp_path / "mine.png").unlink()
    assert main([str(folder), "--inputs", str(tmp_path / "kept.npz")]) == 0
    again = found(folder)["regimes"]
    for regime in (*first, *again):
        for column in regime["columns"]:
            del column["seconds"]
    assert again == first


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (None, "not a file of inputs"),
        ({}, "holds no inputs"),
        ({"flat": np.zeros((4, 4), np.uint8)}, "flat: not images"),
        ({"words": np.full((1, 32, 32, 3), "a")}, "words: not images"),
        ({"any": np.full((1, 32, 32, 3), None)}, "not a file of inputs"),
        ({"grey": np.zeros((1, 32, 32, 1), np.uint8)}, "does not fit"),
        ({"dot": np.zeros((1, 4, 4, 3), np.uint8)}, "too small"),
    ],
)
def test_a_file_that_holds_no_inputs_for_this_net(
    arrays: dict[str, Any] | None,
    said: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "inputs.npz"
    file.write_text("no archive")
    if arrays is not None:
        np.savez(file, **arrays)
    assert main([str(folder), "--inputs", str(file)]) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "report").exists()


@pytest.mark.parametrize(
    ("rtol", "code", "said"), [("1e-4", 0, "the same within"), ("1e-12", 1, "different: first at")]
)
def test_two_artifacts_without_a_source(
    rtol: str,
    code: int,
    said: str,
    mini_artifacts: Path,
    mini_mat: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["diff", str(mini_mat), str(mini_artifacts / "model.onnx"), "--rtol", rtol]
    assert main(words) == code
    assert said in capsys.readouterr().out


def changed(folder: Path, tensor: str, change: Callable[[Any], Any]) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx")
    kept = next(t for t in model.graph.initializer if t.name == tensor)
    values = change(onnx.numpy_helper.to_array(kept).copy())
    kept.CopyFrom(onnx.numpy_helper.from_array(values, tensor))
    onnx.save(model, folder / "model.onnx")


def with_manifest(folder: Path, **entries: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **entries}))


def found(folder: Path) -> Any:
    return json.loads((folder / "report" / "report.json").read_text())


def nan_in_a_bias(folder: Path) -> None:
    def change(values: Any) -> Any:
        values[3] = np.nan
        return values

    changed(folder, "conv3_1/bias", change)


def another_name_inside(folder: Path) -> None:
    """Other bytes, the same net."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    model.producer_name = "somebody"
    onnx.save(model, folder / "model.onnx")


def torn(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"torn")


#: What is done to the folder, the exit code, what is said.
FOLDERS: list[tuple[Callable[[Path], object], int, str]] = [
    (lambda folder: None, 0, "no difference"),
    (nan_in_a_bias, 1, "conv3_1"),
    (torn, 1, "cannot be opened"),
    (lambda folder: (folder.parents[1] / "mini.mat").unlink(), 2, "mini.mat"),
    (lambda folder: (folder / "model.onnx").unlink(), 2, "there is nothing to compare"),
    (lambda folder: with_manifest(folder, files={}), 2, "there is nothing to compare"),
    (lambda folder: with_manifest(folder, source={"files": []}), 2, "none is named"),
    (lambda folder: with_manifest(folder, files=3), 2, "not a conversion's manifest"),
    (lambda folder: with_manifest(folder, inputs=[{"range": "wide"}]), 2, "ValueError"),
    (lambda folder: (folder / "manifest.json").unlink(), 2, "not a conversion's manifest"),
]


@pytest.mark.parametrize(("arrange", "code", "said"), FOLDERS)
def test_exit_codes_of_a_folder(
    arrange: Callable[[Path], object],
    code: int,
    said: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange(folder)
    assert main(["check", str(folder), "--inputs", "photograph"]) == code
    printed = capsys.readouterr()
    assert said in (printed.err if code == 2 else " ".join(printed.out.split()))
    assert (folder / "report").exists() == (code != 2)


def test_with_another_checksum_the_comparison_goes_on(folder: Path) -> None:
    another_name_inside(folder)
    assert main([str(folder), "--inputs", "photograph"]) == 1
    report = found(folder)
    assert "model.onnx" in report["hashes"]
    columns = report["regimes"][0]["columns"]
    assert [column["artifact"] for column in columns] == ["model.onnx", "mini.mat"]
    assert all(column["verdict"]["passed"] for column in columns)


def test_a_folder_that_cannot_be_compared_does_not_hide_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder.with_name("broken")
    shutil.copytree(folder, broken)
    with_manifest(broken, source={"files": [{"path": "../../gone.mat"}]})
    words = [str(folder.parent), "--inputs", "photograph", "--report", str(tmp_path / "out")]
    assert main(words) == 2
    assert "gone.mat" in capsys.readouterr().err
    assert found(tmp_path / "out" / "mini")["verdict"]["passed"] is True
    assert not (folder / "report").exists()


def test_a_source_of_an_artifact_s_name_stands_beside_it(folder: Path, tmp_path: Path) -> None:
    """It must not take the artifact's place and be compared with itself."""
    shutil.move(tmp_path / "mini.mat", tmp_path / "model.mat")
    shutil.copy(tmp_path / "model.mat", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    source = {**manifest["source"]["files"][0], "path": "../../model.mat"}
    with_manifest(
        folder,
        files={"model.mat": {**source, "format": "mat"}},
        source={"files": [source]},
    )
    assert main([str(folder), "--inputs", "photograph"]) == 0
    columns = found(folder)["regimes"][0]["columns"]
    assert [column["artifact"] for column in columns] == ["model.mat", "source model.mat"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--inputs", "black,sunset"], "no input is called 'sunset'"),
        (["--input-range", "5,5"], "'5,5' is not a range A,B"),
        (["--input-range=-1"], "'-1' is not a range A,B"),
        (["--tolerance", "conv1_1"], "'conv1_1' is not NAME:VALUE"),
        (["--images", "no such folder"], "no such folder: no images"),
        (["--image", "no such picture"], "no such picture"),
        (["--names", "names.json"], "--names goes with --reference"),
        (["--dim", "8"], "--dim goes with --reference"),
    ],
)
def test_a_bad_value_is_told_before_anything_is_read(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "nowhere", *words]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "nowhere" not in printed


def test_inputs_are_chosen_in_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["check", "nowhere", "--inputs", "black", "--all-inputs"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("name", "content", "words", "said"),
    [
        ("text.onnx", "no graph", [], "cannot be read as ONNX"),
        ("text.txt", "no graph", [], "is not an artifact that is known"),
        ("names.json", "{}", ["--names", "names.json"], "is not a table of names"),
        ("names.json", "[", ["--names", "names.json"], "cannot be read as JSON"),
        ("names.json", '{"conv1_1": 3}', ["--names", "names.json"], "conv1_1 is 3"),
    ],
)
def test_what_cannot_be_compared_with_a_source(
    name: str,
    content: str,
    words: list[str],
    said: str,
    mini_mat: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    assert main(["check", "--reference", str(mini_mat), name, *words]) == 2
    assert said in capsys.readouterr().err


def test_a_whitening_cannot_be_cut_beyond_its_width(
    mini_mat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "--reference", str(mini_mat), str(mini_mat), "--dim"]
    assert main([*words, "17"]) == 2
    assert "its whitening has 16" in capsys.readouterr().err
    assert main([*words, "8", "--inputs", "photograph"]) == 1  # the whole file is not the cut one


def test_pictures_of_one_s_own(
    mini_mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "night").mkdir(parents=True)
    for name, seed in (("day.png", 1), ("night/day.jpg", 2)):
        Image.fromarray(regimes.photograph(40, 56, seed=seed)[0]).save(pictures / name)
    words = ["check", "--reference", str(mini_mat), str(mini_mat), "--inputs", "black"]
    words += ["--images", str(pictures), "--report", str(tmp_path)]
    assert main(words) == 0
    shapes = {r["name"]: r["shape"] for r in found(tmp_path)["regimes"] if r["name"] != NEAR_ZERO}
    assert list(shapes) == ["black", "day.png", "night/day.jpg"]
    assert shapes["day.png"] == [1, 40, 56, 3]

    shutil.rmtree(tmp_path / "report")
    (pictures / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(words) == 2
    assert "cut.jpg" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_all_inputs_of_a_grey_net_have_one_channel_in_its_range(tmp_path: Path) -> None:
    source = mini()
    layers = source.layers[:2]
    kept = {name for layer in layers for name in layer.params}
    tensors = {name: t for name, t in source.tensors.items() if name in kept and name != MEAN}
    first = layers[0].params[0]
    tensors[first] = np.asfortranarray(tensors[first][:, :, :1] * 255)
    path = tmp_path / "grey.mat"
    matconvnet.write(replace(source, tensors=tensors, layers=layers), path)
    words = ["check", "--reference", str(path), str(path), "--input-range=-1,1"]
    assert main([*words, "--all-inputs", "--report", str(tmp_path)]) == 0
    shapes = {regime["name"]: regime["shape"] for regime in found(tmp_path)["regimes"]}
    assert tuple(shapes) == regimes.ALL
    assert shapes["batch_of_3"] == [3, 96, 128, 1]


@pytest.mark.parametrize("words", [["nowhere"], ["check", "--reference", "no.mat", "no.onnx"]])
def test_what_is_not_there_cannot_be_compared(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("netvlad-verify: ")
