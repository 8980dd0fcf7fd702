"""`netvlad-convert` and `netvlad-verify` as people type them, on MatConvNet nets of every form."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from converters.__main__ import main as convert
from converters.checkpoint import MEAN, Array, Checkpoint, Layer, Origin
from converters.writers.sources import matconvnet
from verify.__main__ import main as verify

PLUGIN = Path(__file__).resolve().parents[2] / "examples" / "ffdnet_layers.py"
RANDOM = np.random.RandomState(7)


def filters(*shape: int) -> Array:
    values = RANDOM.standard_normal(shape) / np.sqrt(np.prod(shape[:3]))
    return np.asarray(values, np.float32)


def vector(size: int) -> Array:
    return RANDOM.uniform(0.5, 1.5, size).astype(np.float32)


CONV = {"pad": (1, 1, 1, 1), "stride": (1, 1), "dilate": (1, 1)}
FULL = {"pad": (0, 0, 0, 0), "stride": (1, 1), "dilate": (1, 1)}
POOL = {"method": "avg", "pool": (3, 2), "stride": (2, 2), "pad": (1, 0, 0, 1)}


def net(layers: list[Layer], **tensors: Array) -> Checkpoint:
    origin = Origin(Path("net.mat"), "matconvnet", session="a net")
    return Checkpoint(tensors, tuple(layers), {}, origin)


def chain(*rows: tuple[str, str, dict[str, Any], list[Array]]) -> Checkpoint:
    """SimpleNN: each layer reads the one before it."""
    layers: list[Layer] = []
    tensors: dict[str, Array] = {}
    before = "input"
    for name, kind, options, weights in rows:
        params = {f"{name}/weights/{n}": w for n, w in enumerate(weights)}
        layers.append(Layer(name, kind, (before,), tuple(params), options))
        tensors |= params
        before = name
    return net(layers, **tensors)


def classifier() -> Checkpoint:
    """Normalised, pooled by means, dropped out, and connected to one place."""
    bnorm = [vector(6), vector(6), np.stack([vector(6), vector(6)], 1)]
    return chain(
        ("conv1", "conv", CONV, [filters(3, 3, 3, 6), vector(6)]),
        ("bn1", "bnorm", {"epsilon": 1e-5}, bnorm),
        ("relu1", "relu", {"leak": 0.1}, []),
        ("pool1", "pool", POOL, []),
        ("drop1", "dropout", {"rate": 0.5}, []),
        ("fc", "conv", FULL, [filters(5, 4, 6, 4), vector(4)]),
        ("prob", "softmax", {}, []),
    )


def twins() -> Checkpoint:
    """DagNN: two inputs through the same filters, a sum, and two outputs."""
    layers = [
        Layer("left", "conv", ("a",), ("f", "b"), CONV, "x1"),
        Layer("right", "conv", ("b_in",), ("f", "b"), CONV, "x2"),
        Layer("both", "sum", ("left", "right"), (), {}, "total"),
        Layer("beside", "concat", ("both", "right"), (), {"dim": 3}, "stack"),
        Layer("sharp", "sigmoid", ("both",), (), {}, "map"),
    ]
    return net(layers, f=filters(3, 3, 2, 4), b=vector(4))


def ffdnet() -> Checkpoint:
    """FFDNet's form: pixels to channels, the noise level beside them, and back."""
    return chain(
        ("down", "SubP", {"scale": 0.5}, []),
        ("level", "concat", {"dim": 3}, []),
        ("conv1", "conv", CONV, [filters(3, 3, 5, 6), vector(6)]),
        ("relu1", "relu", {"leak": 0.0}, []),
        ("conv2", "conv", CONV, [filters(3, 3, 6, 4), vector(4)]),
        ("up", "SubP", {"scale": 2.0}, []),
    )


Writer = Callable[[Checkpoint, Path], Any]
ONNX = ["--formats", "onnx"]
CASES: dict[str, tuple[Callable[[], Checkpoint], Writer, list[str], list[str]]] = {
    "classifier": (classifier, matconvnet.write, [], []),
    "merged": (classifier, matconvnet.write, ["--merge-batchnorm", *ONNX], []),
    "cut": (classifier, matconvnet.write, ["--until", "pool1", *ONNX], []),
    "outputs": (classifier, matconvnet.write, ["--outputs", "relu1,pool1", *ONNX], []),
    "nchw": (classifier, matconvnet.write, ["--layout", "nchw", *ONNX], []),
    "twins": (twins, matconvnet.write, [], []),
    "plugin": (ffdnet, matconvnet.write, ["--plugin", str(PLUGIN)], ["--plugin", str(PLUGIN)]),
}

Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder that a case's conversion made, once for all tests; not to be changed."""
    return functools.cache(lambda case: converted(case, tmp_path_factory.mktemp(case)))


def converted(case: str, folder: Path) -> Path:
    build, write, words, _ = CASES[case]
    write(build(), folder / "net.mat")
    output = folder / "artifacts"
    words = ["convert", "--source", str(folder / "net.mat"), "--output", str(output), *words]
    assert convert(words) == 0
    return output / "net"


@pytest.mark.parametrize("case", CASES)
def test_every_artifact_is_the_source(case: str, made: Made, tmp_path: Path) -> None:
    words = ["check", str(made(case)), "--report", str(tmp_path), *CASES[case][3]]
    assert verify(words) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["verdict"]["passed"] is True


@pytest.mark.parametrize("case", ["classifier", "merged", "twins"])
def test_one_weight_is_charged_to_its_layer(case: str, made: Made, tmp_path: Path) -> None:
    # With its source, which the manifest names from where the folder lies.
    folder = Path(shutil.copytree(made(case).parents[1], tmp_path / case)) / "artifacts" / "net"
    model = onnx.load(folder / "model.onnx")
    kernel = next(t for t in model.graph.initializer if t.name.endswith("/kernel"))
    values = onnx.numpy_helper.to_array(kernel).copy()
    values[1, 0, 1, 1] += 0.01 * values.std()
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
    onnx.save(model, folder / "model.onnx")
    assert verify(["check", str(folder), "--inputs", "photograph"]) == 1
    verdict = json.loads((folder / "report" / "report.json").read_text())["verdict"]
    assert verdict["tensor"] == kernel.name
    assert verdict["first_bad_layer"] == kernel.name.split("/")[0]


def test_several_inputs_are_kept_by_name_and_taken_again(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", str(made("twins")), "--report", str(tmp_path)]
    assert verify([*words, "--inputs", "photograph,black"]) == 0
    kept = tmp_path / "report" / "inputs.npz"
    with np.load(kept) as arrays:
        assert list(arrays) == [
            "photograph:a", "photograph:b_in", "black:a", "black:b_in",
        ]  # fmt: skip
        half = {name: arrays[name] for name in arrays if name != "black:b_in"}
    assert verify([*words, "--inputs", str(kept)]) == 0
    np.savez(tmp_path / "half.npz", **half)
    capsys.readouterr()
    assert verify([*words, "--inputs", str(tmp_path / "half.npz")]) == 2
    assert "black:b_in" in capsys.readouterr().err


def test_inputs_and_outputs_have_the_source_s_names(made: Made) -> None:
    graph = onnx.load(made("twins") / "model.onnx").graph
    assert [value.name for value in graph.input] == ["a", "b_in"]
    assert [value.name for value in graph.output] == ["stack", "map"]
    names = [tensor.name for tensor in graph.initializer if "kernel" in tensor.name]
    assert names == ["left/kernel"]


@pytest.mark.parametrize("flat", [True, False], ids=["vector", "image"])
def test_the_mean_can_be_put_into_the_net(flat: bool, tmp_path: Path) -> None:
    image = np.full((24, 32, 3), 5.0) if flat else RANDOM.uniform(90, 130, (24, 32, 3))
    source = classifier()
    layers = source.layers[:4]
    tensors = {n: t for n, t in source.tensors.items() if n.split("/")[0] in ("conv1", "bn1")}
    source = replace(source, layers=layers, tensors={MEAN: image.astype(np.float32), **tensors})
    matconvnet.write(source, tmp_path / "net.mat")
    words = ["convert", "--source", str(tmp_path / "net.mat"), "--output", str(tmp_path / "out")]
    more = ["--formats", "onnx,keras"] if flat else [*ONNX, "--fix-size", "24x32"]
    assert convert([*words, "--with-preprocessing", *more]) == 0
    assert verify(["check", str(tmp_path / "out" / "net")]) == 0


def test_all_that_cannot_be_carried_comes_in_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matconvnet.write(ffdnet(), tmp_path / "net.mat")
    words = ["convert", "--source", str(tmp_path / "net.mat"), "--output", str(tmp_path / "out")]
    assert convert(words) == 1
    said = capsys.readouterr().err
    assert "layer down: type SubP" in said
    assert "layer up: type SubP" in said
    assert "--plugin" in said
    assert not list((tmp_path / "out").glob("[!.]*"))
