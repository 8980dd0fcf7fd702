"""Outputs of other programs beside the source, from the command line to the exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from converters.errors import ReadError
from converters.mini import mini
from verify import capture, regimes
from verify.__main__ import main
from verify.fast_pow import STOCK_CPU
from verify.oracle import run
from verify.runners import captured
from verify.tolerance import Tolerance

Array = NDArray[Any]
Outputs = dict[str, Array]

SOURCE = mini()
PICTURE = regimes.photograph(40, 48)
OUTPUTS = run(SOURCE, PICTURE, np.float32)
LAYERS = tuple(OUTPUTS)
STOCK = run(SOURCE, PICTURE, np.float32, operators=STOCK_CPU)
CAUSE = "MatConvNet's stock CPU build: vl_nnnormalize approximates powf (fast_pow)"


class Bench:
    """A source, a picture, and a folder for captures of it."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.picture = folder / "picture.npy"
        np.save(self.picture, PICTURE)

    def check(self, *words: Path | str) -> tuple[int, dict[str, Any]]:
        """Exit code, and report.json if one was written."""
        folder = self.folder / "out"
        shutil.rmtree(folder, ignore_errors=True)
        fixed = ["--reference", self.source, "--image", self.picture, "--report", folder]
        code = main(["check", *map(str, (*fixed, *words))])
        report = folder / "report" / "report.json"
        return code, json.loads(report.read_text("utf-8")) if report.is_file() else {}

    def captured(self, file: str | Path, *words: str) -> tuple[int, dict[str, Any]]:
        return self.check("--capture", self.folder / file, *words)

    def npz(self, outputs: Mapping[str, Array], name: str = "capture.npz") -> str:
        np.savez(self.folder / name, allow_pickle=False, **outputs)
        return name


@pytest.fixture
def bench(mini_mat: Path, tmp_path: Path) -> Bench:
    return Bench(mini_mat, tmp_path)


def column(report: dict[str, Any], at: int = 0) -> dict[str, Any]:
    (regime,) = report["regimes"]
    found: dict[str, Any] = regime["columns"][at]
    return found


def matlab(values: Array) -> Array:
    """N×H×W×C or N×D as MatConvNet has it, last axes of size 1 dropped as MATLAB does."""
    maps = values if values.ndim == 4 else values[:, None, None]
    turned = maps.transpose(1, 2, 3, 0)
    while turned.ndim > 2 and turned.shape[-1] == 1:
        turned = turned[..., 0]
    return turned


def nchw(values: Array) -> Array:
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


# ---------------------------------------------------------------- could not compare: 2


def test_names_of_which_the_source_has_none_are_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    name = bench.npz({"output_0": OUTPUTS["finalL2"], "fc": OUTPUTS["WPCA"]})
    assert bench.captured(name) == (2, {})
    words = capsys.readouterr().err
    assert "holds none of the source's layers; it has 'output_0', 'fc'" in words
    assert "conv1_1" in words  # what they are called


def test_two_arrays_for_one_layer_are_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    name = bench.npz({"descriptor": OUTPUTS["finalL2"], "035|finalL2": OUTPUTS["finalL2"]})
    assert bench.captured(name)[0] == 2
    assert "holds two arrays for finalL2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--reference", "s.mat", "--capture", "c.npy"], "needs --reference and --image"),
        (["--image", "i.npy", "--capture", "c.npy"], "needs --reference and --image"),
        ([], "there is nothing to compare"),
        (["--reference", "s.mat"], "there is nothing to compare"),
    ],
)
def test_too_little_is_told(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *words]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.npy", None, "does not exist"),
        ("capture.txt", b"1 2 3", "is not a capture that is known: .npy, .npz, .mat, .pb"),
        ("broken.npy", b"\x93NUMPY", "cannot be parsed"),
        ("broken.npz", b"PK\x03\x04 and no more", "cannot be parsed"),
        ("broken.mat", b"not MATLAB's", "broken.mat: "),
        ("broken.pb", b"\xff\xff\xff", "cannot be parsed"),
        ("empty.pb", b"", "is not an ONNX tensor"),
    ],
)
def test_what_is_no_capture_is_refused(
    bench: Bench,
    name: str,
    content: bytes | None,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name.endswith(".pb"):
        pytest.importorskip("onnx")
    if content is not None:
        (bench.folder / name).write_bytes(content)
    assert bench.captured(name)[0] == 2
    words = capsys.readouterr().err
    assert problem in words
    assert name in words


def test_pickled_objects_are_not_opened(bench: Bench) -> None:
    np.save(bench.folder / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    assert bench.captured("objects.npy")[0] == 2


def test_a_tensor_whose_values_lie_elsewhere_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(OUTPUTS["finalL2"], "finalL2")
    onnx.external_data_helper.set_external_data(tensor, "other.bin")
    tensor.ClearField("raw_data")
    (bench.folder / "far.pb").write_bytes(tensor.SerializeToString())
    assert bench.captured("far.pb")[0] == 2
    assert "its values lie in another file" in capsys.readouterr().err


def test_a_variable_that_is_no_array_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    scipy.io.savemat(
        bench.folder / "workspace.mat", {"descriptor": OUTPUTS["finalL2"], "opts": {"gpu": 1}}
    )
    assert bench.captured("workspace.mat")[0] == 2
    assert "holds opts (struct)" in capsys.readouterr().err


# ---------------------------------------------------------------- axes

SMALL = np.arange(512.0).reshape(1, 8, 8, 8)


def test_axes_that_fit_in_two_ways_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", allow_pickle=False, pool2=SMALL)
    with pytest.raises(ReadError, match=r"pool2 has shape \(1, 8, 8, 8\), which can be "):
        captured.open(tmp_path / "c.npz", {"pool2": (1, 8, 8, 8)})


@pytest.mark.parametrize(
    ("lay", "expected"),
    [
        (lambda x: x, SMALL),
        (nchw, SMALL),
        (lambda x: x.transpose(1, 2, 3, 0), SMALL),
    ],
    ids=["N×H×W×C", "N×C×H×W", "H×W×C×N"],
)
def test_a_layer_that_fits_in_two_ways_lies_as_the_others_of_its_file(
    lay: Callable[[Array], Array], expected: Array, tmp_path: Path
) -> None:
    other = np.arange(96.0).reshape(1, 4, 8, 3)
    np.savez(tmp_path / "c.npz", allow_pickle=False, conv1=lay(other), pool2=lay(SMALL))
    found = captured.open(tmp_path / "c.npz", {"conv1": (1, 4, 8, 3), "pool2": (1, 8, 8, 8)})
    np.testing.assert_array_equal(found.arrays["conv1"], other)
    np.testing.assert_array_equal(found.arrays["pool2"], expected)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((1, 6), (1, 6)),
        ((6,), (1, 6)),
        ((6, 1), (1, 6)),
        ((1, 1, 6), (1, 6)),
        ((1, 6, 1, 1), (1, 6)),
        ((2, 6), (2, 6)),
        ((1, 1, 6, 2), (2, 6)),
        ((2, 6, 1, 1), (2, 6)),
        ((2, 5, 6), (2, 1, 5, 6)),
        ((1, 5, 6, 2), (2, 1, 5, 6)),
        ((5, 6), (1, 5, 6, 1)),
    ],
)
def test_axes_are_told_by_the_shape(
    given: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    np.save(tmp_path / "c.npy", np.arange(float(np.prod(given))).reshape(given))
    assert captured.open(tmp_path / "c.npy", {"last": shape}).arrays["last"].shape == shape


def test_as_many_vectors_as_numbers_in_each_fit_in_two_ways(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.arange(9.0).reshape(3, 3))
    with pytest.raises(ReadError, match="can be"):
        captured.open(tmp_path / "c.npy", {"last": (3, 3)})


# ---------------------------------------------------------------- every form of a good one


def write_npy(folder: Path, outputs: Outputs) -> tuple[str, int]:
    np.save(folder / "c.npy", outputs["finalL2"])
    return "c.npy", 1


def write_flat(folder: Path, outputs: Outputs) -> tuple[str, int]:
    np.save(folder / "c.npy", outputs["finalL2"].ravel().astype(np.float64))
    return "c.npy", 1


def write_named(folder: Path, outputs: Outputs) -> tuple[str, int]:
    np.savez(folder / "c.npz", allow_pickle=False, **outputs)
    return "c.npz", 36


def write_nchw(folder: Path, outputs: Outputs) -> tuple[str, int]:
    np.savez(folder / "c.npz", allow_pickle=False, **{n: nchw(y) for n, y in outputs.items()})
    return "c.npz", 36


def write_numbered(folder: Path, outputs: Outputs) -> tuple[str, int]:
    rows = {f"{i:03d}|{n}": matlab(y) for i, (n, y) in enumerate(outputs.items())}
    np.savez(folder / "c.npz", allow_pickle=False, **rows)
    return "c.npz", 36


def write_capture(folder: Path, outputs: Outputs) -> tuple[str, int]:
    kept = capture.Capture("a program", capture.fingerprint(PICTURE), outputs)
    capture.save(kept, folder / "c.npz")
    return "c.npz", 36


def write_mat(folder: Path, outputs: Outputs) -> tuple[str, int]:
    rows = {n.replace(":", "_"): matlab(y) for n, y in outputs.items() if n != "finalL2"}
    scipy.io.savemat(folder / "c.mat", {**rows, "descriptor": matlab(outputs["finalL2"])})
    return "c.mat", 36


def write_mat_v73(folder: Path, outputs: Outputs) -> tuple[str, int]:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "c.mat", "w", userblock_size=512) as file:
        for name in ("conv5_3", "finalL2"):
            item = file.create_dataset(name, data=matlab(outputs[name]).T)
            item.attrs["MATLAB_class"] = np.bytes_("single")
    return "c.mat", 2


def write_pb(folder: Path, outputs: Outputs) -> tuple[str, int]:
    onnx = pytest.importorskip("onnx")
    onnx.save_tensor(onnx.numpy_helper.from_array(outputs["preL2"], "preL2"), folder / "c.pb")
    return "c.pb", 1


def write_nameless_pb(folder: Path, outputs: Outputs) -> tuple[str, int]:
    onnx = pytest.importorskip("onnx")
    onnx.save_tensor(onnx.numpy_helper.from_array(outputs["finalL2"]), folder / "c.pb")
    return "c.pb", 1


@pytest.mark.parametrize(
    "write",
    [
        write_npy,
        write_flat,
        write_named,
        write_nchw,
        write_numbered,
        write_capture,
        write_mat,
        write_mat_v73,
        write_pb,
        write_nameless_pb,
    ],
)
def test_faithful_outputs_pass(
    write: Callable[[Path, Outputs], tuple[str, int]], bench: Bench
) -> None:
    name, layers = write(bench.folder, OUTPUTS)
    code, report = bench.captured(name)
    assert code == 0
    found = column(report)
    assert found["kind"] == "capture"
    assert len(found["layers"]) == layers
    assert all(row["own"] is None and row["inherited"] for row in found["layers"])
    assert found["weights"] == []
    assert f"{layers} of 36 layers" in found["notes"][0]
    assert report["verdict"]["cause"] == ""


def test_what_is_not_captured_is_listed(bench: Bench) -> None:
    _, report = bench.captured(
        bench.npz({name: OUTPUTS[name] for name in LAYERS if name not in ("pool1", "WPCA")})
    )
    assert column(report)["notes"][1] == "not captured: pool1, WPCA"
    assert "34 of 36 layers" in report["verdict"]["sentence"]
    assert report["verdict"]["passed"] is True


def test_it_stands_beside_the_artifacts_on_its_picture_alone(
    bench: Bench, mini_artifacts: Path
) -> None:
    pytest.importorskip("onnxruntime")
    name = bench.npz({"descriptor": OUTPUTS["finalL2"]})
    code, report = bench.captured(name, str(mini_artifacts / "model.onnx"), "--inputs", "black")
    assert code == 0
    kinds = {r["name"]: [c["kind"] for c in r["columns"]] for r in report["regimes"]}
    assert kinds["black"] == ["onnx"]
    assert kinds["picture.npy"] == ["onnx", "capture"]


# ---------------------------------------------------------------- differences: 1


def test_the_first_layer_that_differs_is_named(bench: Bench) -> None:
    wrong = {**OUTPUTS, "conv3_2": OUTPUTS["conv3_2"] * np.float32(1.001)}
    code, report = bench.captured(bench.npz(wrong))
    assert code == 1
    assert report["verdict"]["first_bad_layer"] == "conv3_2"
    assert [row["layer"] for row in column(report)["layers"] if not row["passed"]] == ["conv3_2"]


@pytest.mark.parametrize(
    ("picture", "first"),
    [(regimes.photograph(40, 48, seed=7), "input"), (regimes.photograph(48, 40), "input")],
    ids=["another", "another size"],
)
def test_outputs_for_another_picture_differ_from_the_input_on(
    picture: Array, first: str, bench: Bench
) -> None:
    code, report = bench.captured(bench.npz(run(SOURCE, picture, np.float32)))
    assert (code, report["verdict"]["first_bad_layer"]) == (1, first)


def test_a_descriptor_for_another_picture_differs(bench: Bench) -> None:
    other = run(SOURCE, regimes.photograph(40, 48, seed=7), np.float32)["finalL2"]
    np.save(bench.folder / "c.npy", other)
    code, report = bench.captured("c.npy")
    assert (code, report["verdict"]["first_bad_layer"]) == (1, "finalL2")
    assert report["verdict"]["cause"] == ""


def test_a_name_that_the_source_lacks_is_a_difference_not_a_remark(bench: Bench) -> None:
    code, report = bench.captured(bench.npz({**OUTPUTS, "conv1_l": OUTPUTS["conv1_1"]}))
    assert code == 1
    assert "the source has no layer conv1_l" in report["verdict"]["sentence"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.full((1, 16), np.nan, np.float32), "NaN"),
        (np.zeros((1, 15), np.float32), "has shape (1, 15), the source (1, 16)"),
        (np.zeros((1, 16), np.complex64), "holds complex64"),
    ],
    ids=["NaN", "shape", "complex"],
)
def test_what_cannot_be_compared_is_a_difference(values: Array, problem: str, bench: Bench) -> None:
    np.save(bench.folder / "c.npy", values)
    code, report = bench.captured("c.npy")
    assert code == 1
    assert problem in report["verdict"]["sentence"]


# ---------------------------------------------------------------- the stock CPU build


@pytest.mark.parametrize("layers", [("finalL2",), LAYERS], ids=["descriptor", "all layers"])
def test_the_stock_build_passes_the_loose_gate_with_its_cause(
    layers: tuple[str, ...], bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = bench.captured(bench.npz({name: STOCK[name] for name in layers}))
    assert code == 0
    assert report["verdict"]["cause"] == CAUSE
    assert (
        f"within the loose gate 0.005 (L2 of the descriptor 9.09e-04), cause: {CAUSE}"
        in (report["verdict"]["sentence"])
    )
    assert any(CAUSE in note for note in column(report)["notes"])
    known = [r["layer"] for r in column(report)["layers"] if r["inherited"]["limit"] == "Infinity"]
    assert known == [name for name in LAYERS[30:] if name in layers]
    assert "no difference" not in capsys.readouterr().out


@pytest.mark.parametrize("gate", ["0", "5e-4"])
def test_the_gate_can_be_narrower(gate: str, bench: Bench) -> None:
    code, report = bench.captured(bench.npz({"finalL2": STOCK["finalL2"]}), "--loose", gate)
    assert (code, report["verdict"]["first_bad_layer"]) == (1, "finalL2")
    assert report["verdict"]["cause"] == ""


@pytest.mark.parametrize(
    ("layer", "others", "first"),
    [("finalL2", (), "finalL2"), ("vlad:core", LAYERS, "preL2"), ("conv5_3", LAYERS, "conv5_3")],
)
def test_a_stock_capture_with_another_fault_differs(
    layer: str, others: tuple[str, ...], first: str, bench: Bench
) -> None:
    """Within the gate, but the approximation does not give these values."""
    values = STOCK[layer].copy()
    values.flat[3] += np.float32(1e-2 * np.abs(values).max())
    code, report = bench.captured(bench.npz({n: STOCK[n] for n in others} | {layer: values}))
    assert (code, report["verdict"]["first_bad_layer"]) == (1, first)
    assert report["verdict"]["cause"] == ""


def test_a_difference_of_that_size_without_the_cause_fails(bench: Bench) -> None:
    noise = np.random.default_rng(1).standard_normal(16).astype(np.float32)
    values = OUTPUTS["finalL2"] + noise / np.linalg.norm(noise) * np.float32(9e-4)
    code, report = bench.captured(bench.npz({"finalL2": values}))
    assert (code, report["verdict"]["cause"]) == (1, "")


def test_the_gate_is_5e_3() -> None:
    assert Tolerance().loose == 5e-3


# ---------------------------------------------------------------- MatConvNet's and TF1's own


def test_goldens(shared_data: Path, tmp_path: Path) -> None:
    """The exact ones pass tightly, the stock build's loosely and with its cause."""
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    code, report = golden_check(shared_data / "netvlad", GOLDENS, tmp_path)
    assert code == 0
    every = {c["artifact"].rpartition("/")[2]: c for c in report["regimes"][0]["columns"]}
    assert {name: (len(c["layers"]), c["verdict"]["cause"]) for name, c in every.items()} == {
        "matconvnet_layers_query_96x128.npz": (36, ""),
        "tf1_upstream_descriptor_query_96x128.npy": (1, ""),
        "matconvnet_stock_cpu_descriptor_query_96x128.npy": (1, CAUSE),
    }


def test_a_changed_golden_and_another_picture_s_differ(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    folder = shared_data / "netvlad"
    changed = np.load(folder / GOLDENS[2], allow_pickle=False)
    changed.flat[7] += np.float32(5e-4)
    np.save(tmp_path / "changed.npy", changed)
    files = (tmp_path / "changed.npy", "matconvnet_descriptor_db2_96x128.npy")
    code, report = golden_check(folder, files, tmp_path)
    assert code == 1
    verdicts = [c["verdict"] for c in report["regimes"][0]["columns"]]
    assert [(v["passed"], v["cause"]) for v in verdicts] == [(False, ""), (False, "")]


GOLDENS = (
    "matconvnet_layers_query_96x128.npz",
    "tf1_upstream_descriptor_query_96x128.npy",
    "matconvnet_stock_cpu_descriptor_query_96x128.npy",
)


def golden_check(
    folder: Path, captures: Sequence[str | Path], place: Path
) -> tuple[int, dict[str, Any]]:
    """Captures of the query image against the real net: exit code and report."""
    words = ["--reference", folder / "vd16_white64_classes_v7.mat", "--report", place]
    words += ["--image", folder / "image_query_96x128.npy"]
    for name in captures:
        words += ["--capture", folder / name]
    code = main(["check", *map(str, words)])
    return code, json.loads((place / "report" / "report.json").read_text("utf-8"))
