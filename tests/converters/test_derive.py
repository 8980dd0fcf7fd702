"""`--half`, `--int8` and `--simplify`: made, declared, verified, and refused where they lose."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from converters import formats
from converters.convert import Request, convert
from converters.derive import Derived, images
from converters.errors import ConversionError
from converters.sources import SourceFiles
from converters.writers import onnx_int8, onnx_simplify
from converters.writers.agreement import agreement
from converters.writers.onnx_int8 import Gate
from verify.check import folder
from verify.inputs import Inputs
from verify.result import Report
from verify.tolerance import Tolerance

Array = NDArray[Any]


def request(mini_mat: Path, output: Path, derived: Derived, *asked: str) -> Request:
    source = SourceFiles("mini", (mini_mat,), "MIT", "cite it")
    return Request(source, output, asked or ("onnx",), derived=derived)


@pytest.fixture(scope="module")
def made(mini_mat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("derived")
    return convert(request(mini_mat, output, Derived(half=True, simplify=True)))


def checked(place: Path) -> Report:
    inputs = Inputs(names=("near_black",), chosen=True)
    return folder(place, place, inputs, Tolerance())


@pytest.fixture
def changed(made: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Report]:
    """The report on a copy whose float16 file was changed, its checksum put right."""

    def change(edit: Callable[[Any], None]) -> Report:
        copy = tmp_path / "mini"
        shutil.copytree(made, copy)
        manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
        for entry in manifest["source"]["files"]:
            entry["path"] = str((made / entry["path"]).resolve())
        model = onnx.load(copy / "model_fp16.onnx")
        edit(model)
        onnx.save(model, copy / "model_fp16.onnx")
        del manifest["files"]["model_fp16.onnx"], manifest["files"]["model.onnx"]
        manifest["files"]["model_fp16.onnx"] = facts(copy / "model_fp16.onnx")
        (copy / "manifest.json").write_text(json.dumps(manifest), "utf-8")
        return checked(copy)

    return change


def facts(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"format": "fp16", "size": path.stat().st_size, "sha256": digest}


def column(report: Report, name: str = "model_fp16.onnx") -> Any:
    return next(c for c in report.columns if c.artifact == name)


@pytest.mark.parametrize(
    "derived", [Derived(half=True), Derived(int8=True), Derived(simplify=True)]
)
def test_without_an_onnx_file_there_is_nothing_to_start_from(
    mini_mat: Path, tmp_path: Path, derived: Derived
) -> None:
    with pytest.raises(ConversionError, match="start from the ONNX file"):
        convert(request(mini_mat, tmp_path, derived, "h5"))
    assert not (tmp_path / "mini").exists()


def test_a_float16_file_is_declared_and_passes(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text("utf-8"))
    assert manifest["transformations"] == ["rounded to float16: model_fp16.onnx"]
    assert manifest["files"]["model_fp16.onnx"]["format"] == "fp16"
    report = checked(made)
    assert report.passed, report.first_failure
    last = column(report).layers[-1]
    assert last.layer == "finalL2"
    assert last.inherited.cosine > 0.9999
    assert column(report, "model.onnx").verdict.passed  # simplified, against float32's limits


def test_one_float16_weight_one_step_off_is_named(
    changed: Callable[[Callable[[Any], None]], Report],
) -> None:
    def edit(model: Any) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "conv3_2/kernel")
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[7] = np.nextafter(values.flat[7], np.float16(np.inf))
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    report = changed(edit)
    assert not report.passed
    assert "conv3_2/kernel" in column(report).verdict.sentence


def test_a_norm_in_float16_is_found(changed: Callable[[Callable[[Any], None]], Report]) -> None:
    def edit(model: Any) -> None:
        """preL2's squares are rounded on their way."""
        half = onnx.helper.make_node("Cast", ["preL2/Mul"], ["half"], "half", to=10)
        back = onnx.helper.make_node("Cast", ["half"], ["back"], "back", to=1)
        at = next(i for i, n in enumerate(model.graph.node) if n.name == "preL2/ReduceSum")
        model.graph.node[at].input[0] = "back"
        model.graph.node.insert(at, half)
        model.graph.node.insert(at + 1, back)

    report = changed(edit)
    assert column(report).verdict.first_bad_layer == "preL2"


def test_undeclared_float16_fails(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mini"
    shutil.copytree(made, copy)
    manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
    manifest["transformations"] = []
    for entry in manifest["source"]["files"]:
        entry["path"] = str((made / entry["path"]).resolve())
    (copy / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert not column(checked(copy)).verdict.passed


def test_int8_that_loses_too_much_is_refused_with_the_figures(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "model_int8.onnx"
    batches = images(None, size=(48, 64))
    with pytest.raises(ConversionError, match=r"int8 loses too much: top-1 .*, L2 at most .* dB"):
        list(onnx_int8.write(made / "model.onnx", target, batches, Gate(l2=1e-4)))
    assert list(tmp_path.iterdir()) == []


def test_int8_behind_its_gate(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "model_int8.onnx"
    gate = Gate(top1=0.0, top10=0.5, l2=0.3)
    *_, told = onnx_int8.write(made / "model.onnx", target, images(None, size=(48, 64)), gate)
    assert "times as fast" in told
    assert target.stat().st_size < (made / "model.onnx").stat().st_size
    model = onnx.load(target)
    kernels = [t for t in model.graph.initializer if t.name == "conv1_1/kernel_quantized"]
    assert [t.data_type for t in kernels] == [onnx.TensorProto.INT8]
    vlad = next(t for t in model.graph.initializer if t.name == "vlad:core/assignment")
    assert vlad.data_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_images_to_calibrate_on_are_refused(tmp_path: Path, count: int) -> None:
    from PIL import Image

    for index in range(count):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{index}.png")
    with pytest.raises(ConversionError, match="images"):
        images(tmp_path)


def test_agreement_counts_matches() -> None:
    right = np.eye(4) + 0.1 * np.arange(16).reshape(4, 4) / 16
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    same = agreement(right, right)
    assert (same.top1, same.top10, same.l2) == (1.0, 1.0, 0.0)
    assert agreement(right, right[::-1]).l2 > 1
    assert np.isnan(agreement(right, np.full_like(right, np.nan)).l2)
    assert not Gate().passed(agreement(right, np.full_like(right, np.nan)))


def test_simplify_that_loses_a_weight_is_refused(made: Path, tmp_path: Path) -> None:
    model = onnx.load(made / "model.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3), "lost/kernel"))
    onnx.save(model, tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(ConversionError, match=r"loses lost/kernel"):
        onnx_simplify.write(tmp_path / "model.onnx", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == before


def test_every_derived_format_has_a_writer() -> None:
    assert all(hasattr(formats.load(format), "write") for format in formats.DERIVED.values())
