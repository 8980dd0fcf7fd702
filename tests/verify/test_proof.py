"""Artifacts against a kept reference, without the source. The artifact here is NumPy's."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.checkpoint import Checkpoint
from converters.errors import EnvironmentFailure, ReadError
from converters.mini import SPEC, mini, seeded
from converters.writers.sources import matconvnet
from verify import proof, proof_file, proof_make, regimes
from verify.__main__ import main
from verify.capture import Array
from verify.proof_file import Fingerprint, fingerprint
from verify.runners.matconvnet import MatConvNet

PICTURE = regimes.photograph(32, 48)
#: sha256 of the bytes 00000000 0000803f 00000040 00004040 00008040 0000a040.
GOLDEN = "e2c0a71510b5394df7773b63fb5f54372b84c3564e67811bde7d665be227976d"


@pytest.fixture(scope="module")
def made(mini_mat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proof")
    assert main(["reference", "--source", str(mini_mat), "--output", str(kept(folder))]) == 0
    return kept(folder)


@pytest.fixture
def folder(made: Path, mini_mat: Path, tmp_path: Path) -> Path:
    """A net with its `reference.npz` beside it."""
    shutil.copyfile(mini_mat, tmp_path / "mini.mat")
    shutil.copyfile(made, kept(tmp_path))
    return tmp_path


def kept(folder: Path) -> Path:
    return folder / "reference.npz"


def check(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["check", str(folder / "mini.mat"), "--report", str(folder), *words])
    file = folder / "report" / "report.json"
    return code, json.loads(file.read_text("utf-8")) if file.is_file() else {}


def changed(net: Checkpoint, name: str, change: Callable[[Array], None]) -> Checkpoint:
    """The net with one tensor altered in place."""
    values = np.array(net.tensors[name])
    change(values)
    return replace(net, tensors={**net.tensors, name: values})


# ---------------------------------------------------------------- could not compare: 2


def test_a_file_alone_says_what_is_missing(
    mini_mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(mini_mat, tmp_path / "alone.mat")
    assert main([str(tmp_path / "alone.mat")]) == 2
    words = capsys.readouterr().err
    assert "there is no reference.npz beside it" in words
    assert "--reference SOURCE" in words


@pytest.mark.parametrize(
    "words",
    [
        ["--image", "photograph.jpg"],
        ["--inputs", "black"],
        ["--dim", "8"],
        ["--reference", "mini.mat"],
    ],
)
def test_what_needs_the_source_is_refused(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(folder, "--against", str(kept(folder)), *words) == (2, {})
    assert f"{words[0]} needs the source" in capsys.readouterr().err


def test_nothing_to_compare_is_told(folder: Path) -> None:
    assert main(["check", "--against", str(kept(folder))]) == 2


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def arrays_alone(path: Path) -> None:
    np.savez(path, allow_pickle=False, finalL2=np.ones((1, 16)))


def objects(path: Path) -> None:
    np.savez(path, allow_pickle=True, facts=np.array([{"a": 1}], object))


def other_form(path: Path) -> None:
    facts(path, lambda found: found.update(form="netvlad-verify reference 2"))


def no_weights(path: Path) -> None:
    facts(path, lambda found: found.update(weights={}))


def no_layers(path: Path) -> None:
    facts(path, lambda found: found.update(costs={}))


def facts(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive.items())
    found = json.loads(str(arrays.pop("facts")))
    change(found)
    np.savez(path, allow_pickle=False, facts=np.array(json.dumps(found)), **arrays)


@pytest.mark.parametrize(
    "damage", [nothing, cut_short, arrays_alone, objects, other_form, no_weights, no_layers]
)
def test_what_is_no_reference_is_refused(
    damage: Callable[[Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(kept(folder))
    assert check(folder) == (2, {})
    assert "reference.npz: " in capsys.readouterr().err


def test_a_reference_that_would_fill_the_memory_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_file, "_LARGEST", 2**20)
    with zipfile.ZipFile(kept(tmp_path), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("facts.npy", bytes(2**20 + 1))
    assert kept(tmp_path).stat().st_size < 2**12
    with pytest.raises(ReadError, match="bytes of memory"):
        proof_file.load(kept(tmp_path))


def test_where_it_cannot_be_written_nothing_is_left(folder: Path) -> None:
    found = proof_file.load(kept(folder))
    (folder / "taken").mkdir()
    (folder / "taken" / "full").touch()
    with pytest.raises(EnvironmentFailure):
        proof_file.save(found, folder / "taken")
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("words", [[], ["a folder", "--source", "mini.mat"]])
def test_a_reference_is_of_one_source(words: list[str]) -> None:
    assert main(["reference", *words]) == 2


# ---------------------------------------------------------------- the same


def test_a_faithful_artifact_passes(folder: Path) -> None:
    code, report = check(folder)
    assert code == 0
    assert report["verdict"]["passed"] is True
    assert [regime["name"] for regime in report["regimes"]] == [
        "reference.npz",
        "near-zero vectors",
    ]
    (column,) = report["regimes"][0]["columns"]
    assert len(column["layers"]) == 36
    assert len(column["weights"]) == 31
    assert all(row["own"] and row["inherited"] for row in column["layers"][1:])
    assert "mini.mat, as kept in reference.npz (mini.mat sha256 " in report["reference"]


def test_it_is_found_wherever_it_is_named(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "mini.mat", folder / "elsewhere" / "mini.mat")
    assert main([str(folder / "elsewhere" / "mini.mat")]) == 2
    assert main([str(folder / "elsewhere" / "mini.mat"), "--against", str(kept(folder))]) == 0


def test_two_references_are_the_same_bytes(folder: Path, mini_mat: Path) -> None:
    again = folder / "again.npz"
    assert main(["reference", "--source", str(mini_mat), "--output", str(again)]) == 0
    assert again.read_bytes() == kept(folder).read_bytes()


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    made = proof_make.make(mini(), PICTURE)
    proof_file.save(made, kept(tmp_path))
    found = proof_file.load(kept(tmp_path))
    assert found.checkpoint.layers == made.checkpoint.layers
    assert found.weights == made.weights
    assert list(found.layers) == list(made.layers)
    for name, layer in made.layers.items():
        np.testing.assert_array_equal(found.layers[name].values, layer.values)
        assert layer.values.dtype == np.float64
        assert (found.layers[name].own, found.layers[name].inherited) == (
            layer.own,
            layer.inherited,
        )


def test_of_a_large_input_the_largest_layers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof_make, "_MOST", 20_000)
    monkeypatch.setattr(proof_make, "_EXACT", 10_000)
    made = proof_make.make(mini(), PICTURE)
    assert "conv1_1" not in made.layers
    assert sum(layer.values.size for layer in made.layers.values()) <= 20_000
    assert all(layer.values.dtype == np.float32 for layer in made.layers.values())
    found = proof.against(made, {"mini": MatConvNet(mini())})
    assert found.passed
    assert len(found.regimes[0].columns[0].layers) == len(made.layers)
    assert made.layers["finalL2"].own


# ---------------------------------------------------------------- differences: 1


def add(at: tuple[int, ...], by: float) -> Callable[[Array], None]:
    def change(values: Array) -> None:
        values[at] += np.float32(by)

    return change


@pytest.mark.parametrize(
    ("tensor", "by", "name"),
    [
        ("conv1_1/weights/0", 1e-3, "conv1_1/kernel"),
        ("conv3_2/weights/0", 0.05, "conv3_2/kernel"),
        ("conv5_3/weights/1", 0.05, "conv5_3/bias"),
        ("vlad:core/weights/0", 1.0, "vlad:core/assignment"),
        ("vlad:core/weights/1", 0.05, "vlad:core/centers"),
        ("WPCA/weights/0", 0.05, "WPCA/kernel"),
        ("WPCA/weights/1", 0.05, "WPCA/bias"),
        ("normalization/averageImage", 1.0, "input/mean"),
    ],
)
def test_one_changed_weight_is_named_with_its_layer(
    tensor: str, by: float, name: str, folder: Path
) -> None:
    net = mini()
    at = (0,) * net.tensors[tensor].ndim
    wrong = changed(net, tensor, add(at, by))
    found = proof.against(proof_file.load(kept(folder)), {"mini": MatConvNet(wrong)})
    verdict = found.first_failure
    assert verdict
    assert verdict.tensor == name
    assert verdict.first_bad_layer == name.split("/")[0]
    assert f"{name} is not the source's: sha256 " in verdict.sentence


def test_a_weight_that_changes_no_layer_s_output_is_named(folder: Path) -> None:
    def nudge(values: Array) -> None:
        values[0, 0, 0, 0] = np.nextafter(values[0, 0, 0, 0], np.float32(1))

    wrong = changed(mini(), "conv4_1/weights/0", nudge)
    matconvnet.write(wrong, folder / "mini.mat")
    code, report = check(folder)
    assert (code, report["verdict"]["tensor"]) == (1, "conv4_1/kernel")
    (column,) = report["regimes"][0]["columns"]
    assert all(row["passed"] for row in column["layers"])


def test_another_net_differs_from_its_first_layer_on(folder: Path) -> None:
    matconvnet.write(seeded(SPEC, 7), folder / "mini.mat")
    code, report = check(folder)
    assert (code, report["verdict"]["first_bad_layer"]) == (1, "conv1_1")


def test_a_layer_s_own_error_is_charged_to_it(folder: Path) -> None:
    net = mini()
    layers = tuple(
        replace(x, options={"param": (32.0, 1e-2, 1.0, 0.5)}) if x.name == "preL2" else x
        for x in net.layers
    )
    found = proof.against(
        proof_file.load(kept(folder)), {"mini": MatConvNet(replace(net, layers=layers))}
    )
    assert found.first_failure
    assert found.first_failure.first_bad_layer == "preL2"
    (column,) = found.regimes[0].columns
    wrong = [r.layer for r in column.layers if r.own and not r.own.passed]
    assert wrong == ["preL2"]


def test_an_epsilon_shows_on_short_vectors(folder: Path) -> None:
    net = mini()
    layers = tuple(
        replace(x, options={"param": (32.0, 1e-9, 1.0, 0.5)}) if x.name == "preL2" else x
        for x in net.layers
    )
    found = proof.against(
        proof_file.load(kept(folder)), {"mini": MatConvNet(replace(net, layers=layers))}
    )
    assert found.regimes[0].columns[0].verdict.passed
    assert found.first_failure
    assert found.first_failure.first_bad_layer == "preL2"


# ---------------------------------------------------------------- fingerprints


@pytest.mark.parametrize(
    ("weight", "sha256"),
    [
        (np.arange(6, dtype=np.float32).reshape(2, 3), GOLDEN),
        (np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)), GOLDEN),
        (np.arange(6, dtype=">f4").reshape(2, 3), GOLDEN),
        (np.array([[-0.0, 1, 2], [3, 4, 5]]), GOLDEN),
    ],
    ids=["C", "Fortran", "big-endian", "float64 with a negative zero"],
)
def test_a_fingerprint_is_of_the_values(weight: Array, sha256: str) -> None:
    assert fingerprint(weight) == Fingerprint((2, 3), sha256, sha256)  # exact in float16 as well


def test_a_fingerprint_in_float16_is_of_the_values_rounded_once() -> None:
    third = np.full((2, 3), 1 / 3, np.float32)
    found = fingerprint(third)
    assert found.halved == fingerprint(third.astype(np.float16)).sha256
    assert found.halved != found.sha256


def test_a_fingerprint_in_blocks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).standard_normal((7, 5, 3)).astype(np.float32)
    whole = fingerprint(weight)
    monkeypatch.setattr(proof_file, "_BLOCK", 20)
    assert fingerprint(weight) == whole
