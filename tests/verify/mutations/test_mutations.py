"""Proof that the witness catches: planted faults, each with the layer and the cause it must name.

Every row states them literally. `nox -s mutations` prints the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters import formats
from converters.build import build
from converters.checkpoint import Checkpoint
from converters.convert import weights_of
from converters.mini import SPEC, mini, seeded
from converters.recognise import spec_from
from converters.writers.options import WriteOptions
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import CAFFE, Row
from verify.formats import open_artifact
from verify.result import Verdict
from verify.witness import witness

Array = NDArray[Any]
Weights = dict[str, Array]

CAFFE_SPEC = NetVLADSpec(
    trunk=tuple(replace(row, width=row.width // 8) if row.kind == "conv" else row for row in CAFFE),
    clusters=4,
    whitening=8,
    name="caffe",
)
SOURCES: dict[str, Checkpoint] = {"mini": mini(), "caffe": seeded(CAFFE_SPEC, 3)}
FILES = {
    "keras": "model.keras",
    "h5": "model.h5",
    "savedmodel": "saved_model",
    "onnx": "model.onnx",
}


def keep(weights: Weights, spec: NetVLADSpec) -> None:
    """Change nothing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row.

    plant    changes the weights in place, and may return another spec.
    rebuild  changes the built model's layers.
    layer    the verdict's first bad layer; `tensor` and `cause` likewise, the
             cause by words that must stand in it.
    """

    name: str
    format: str
    layer: str
    tensor: str
    cause: str
    plant: Callable[[Weights, NetVLADSpec], NetVLADSpec | None] = keep
    rebuild: Callable[[Any], None] | None = None
    source: str = "mini"


def nudge(tensor: str, index: tuple[int, ...], part: float = 0.01) -> Callable[..., None]:
    """One weight by a part of its tensor's spread."""

    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor][index] += part * weights[tensor].std()

    return plant


def change(tensor: str, function: Callable[[Array], Array]) -> Callable[..., None]:
    """A whole tensor."""

    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor] = np.ascontiguousarray(function(weights[tensor]), np.float32)

    return plant


def swap_last(first: int, second: int, *tensors: str) -> Callable[..., None]:
    """Two outputs change places, in each of these tensors."""

    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        for tensor in tensors:
            values = weights[tensor]
            values[..., [first, second]] = values[..., [second, first]]

    return plant


def swap_tensors(first: str, second: str) -> Callable[..., None]:
    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[first], weights[second] = weights[second], weights[first]

    return plant


def one_filter_sign(tensor: str, index: int) -> Callable[..., None]:
    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor][..., index] *= -1

    return plant


def poison(tensor: str, index: tuple[int, ...]) -> Callable[..., None]:
    def plant(weights: Weights, spec: NetVLADSpec) -> None:
        weights[tensor][index] = np.nan

    return plant


def d_fastest(weights: Weights, spec: NetVLADSpec) -> None:
    """WPCA's rows in the order k·D + d."""
    kernel = weights["WPCA/kernel"]
    rows = kernel.reshape(spec.feature_width, spec.clusters, -1).transpose(1, 0, 2)
    weights["WPCA/kernel"] = np.ascontiguousarray(rows.reshape(kernel.shape))


def other_weights(weights: Weights, spec: NetVLADSpec) -> None:
    checkpoint = seeded(SPEC, 77)
    weights.update({k: np.array(v) for k, v in weights_of(checkpoint, spec).items()})


def relu_before_pool(weights: Weights, spec: NetVLADSpec) -> NetVLADSpec:
    rows = list(spec.trunk)
    at = [row.name for row in rows].index("pool1")
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return replace(spec, trunk=tuple(rows))


def lrn(name: str, constants: tuple[float, ...]) -> Callable[..., NetVLADSpec]:
    def plant(weights: Weights, spec: NetVLADSpec) -> NetVLADSpec:
        def changed(row: Row) -> Row:
            return replace(row, lrn=constants) if row.name == name else row

        return replace(spec, trunk=tuple(changed(row) for row in spec.trunk))

    return plant


def epsilon(layer: str, value: float) -> Callable[[Any], None]:
    def rebuild(model: Any) -> None:
        model.get_layer(layer).epsilon = value

    return rebuild


def half(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def transposed(values: Array) -> Array:
    return values.transpose(1, 0, 2, 3)


def io_swapped(values: Array) -> Array:
    return values.transpose(0, 1, 3, 2)


FAULTS = [
    # one weight, in every format and at every depth
    Fault("one weight", "onnx", "conv1_1", "conv1_1/kernel", "", nudge("conv1_1/kernel", (1, 2, 0, 3))),
    Fault("one weight", "onnx", "conv3_2", "conv3_2/kernel", "", nudge("conv3_2/kernel", (1, 2, 3, 7))),
    Fault("one weight", "keras", "conv5_3", "conv5_3/kernel", "", nudge("conv5_3/kernel", (0, 0, 9, 1))),
    Fault("one weight", "h5", "conv4_1", "conv4_1/kernel", "", nudge("conv4_1/kernel", (2, 2, 5, 15))),
    Fault("one weight", "savedmodel", "conv2_2", "conv2_2/kernel", "", nudge("conv2_2/kernel", (2, 0, 7, 0))),
    Fault("one weight", "onnx", "WPCA", "WPCA/kernel", "", nudge("WPCA/kernel", (100, 3))),
    Fault("one weight", "savedmodel", "WPCA", "WPCA/kernel", "", nudge("WPCA/kernel", (0, 0))),
    Fault("one assignment", "keras", "vlad:core", "vlad:core/assignment", "", nudge("vlad:core/assignment", (5, 5))),
    Fault("one centre's value", "onnx", "vlad:core", "vlad:core/centers", "", nudge("vlad:core/centers", (3, 2))),
    Fault("one bias value", "h5", "conv2_1", "conv2_1/bias", "", nudge("conv2_1/bias", (4,))),
    # biases
    Fault("bias zeroed", "onnx", "conv3_1", "conv3_1/bias", "bias", change("conv3_1/bias", np.zeros_like)),
    Fault("bias zeroed", "keras", "conv1_2", "conv1_2/bias", "bias", change("conv1_2/bias", np.zeros_like)),
    Fault("bias zeroed", "savedmodel", "WPCA", "WPCA/bias", "bias", change("WPCA/bias", np.zeros_like)),
    # order of outputs
    Fault("two filters swapped", "onnx", "conv2_2", "conv2_2/kernel", "swap", swap_last(1, 6, "conv2_2/kernel", "conv2_2/bias")),
    Fault("two filters swapped", "h5", "conv4_3", "conv4_3/kernel", "swap", swap_last(0, 15, "conv4_3/kernel", "conv4_3/bias")),
    Fault("two clusters swapped", "keras", "vlad:core", "vlad:core/assignment", "swap", swap_last(0, 7, "vlad:core/assignment", "vlad:core/centers")),
    Fault("two clusters swapped", "onnx", "vlad:core", "vlad:core/assignment", "swap", swap_last(2, 3, "vlad:core/assignment", "vlad:core/centers")),
    Fault("outputs swapped", "savedmodel", "WPCA", "WPCA/kernel", "swap", swap_last(4, 11, "WPCA/kernel", "WPCA/bias")),
    Fault("kernels of two layers swapped", "onnx", "conv5_1", "conv5_1/kernel", "", swap_tensors("conv5_1/kernel", "conv5_2/kernel")),
    Fault("kernels of two layers swapped", "keras", "conv4_2", "conv4_2/kernel", "", swap_tensors("conv4_2/kernel", "conv4_3/kernel")),
    # axes
    Fault("H and W swapped", "onnx", "conv1_2", "conv1_2/kernel", "height", change("conv1_2/kernel", transposed)),
    Fault("H and W swapped", "h5", "conv5_2", "conv5_2/kernel", "height", change("conv5_2/kernel", transposed)),
    Fault("in and out swapped", "savedmodel", "conv2_1", "conv2_1/kernel", "axes", change("conv2_1/kernel", io_swapped)),
    Fault("kernel flipped", "keras", "conv3_3", "conv3_3/kernel", "", change("conv3_3/kernel", lambda v: v[::-1, ::-1])),
    Fault("WPCA by D fastest", "onnx", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    Fault("WPCA by D fastest", "keras", "WPCA", "WPCA/kernel", "fastest", d_fastest),
    # signs
    Fault("one filter's sign", "onnx", "conv3_1", "conv3_1/kernel", "sign", one_filter_sign("conv3_1/kernel", 5)),
    Fault("one filter's sign", "savedmodel", "conv5_3", "conv5_3/kernel", "sign", one_filter_sign("conv5_3/kernel", 0)),
    Fault("the centres' sign", "h5", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    Fault("the centres' sign", "onnx", "vlad:core", "vlad:core/centers", "sign", change("vlad:core/centers", np.negative)),
    # colours and mean
    Fault("BGR", "onnx", "conv1_1", "conv1_1/kernel", "BGR", change("conv1_1/kernel", lambda v: v[:, :, ::-1])),
    Fault("BGR", "keras", "conv1_1", "conv1_1/kernel", "BGR", change("conv1_1/kernel", lambda v: v[:, :, ::-1])),
    Fault("mean shifted", "onnx", "input", "input/mean", "mean", change("input/mean", lambda v: v + 0.1)),
    Fault("mean shifted", "savedmodel", "input", "input/mean", "mean", change("input/mean", lambda v: v + 0.1)),
    Fault("mean in BGR", "h5", "input", "input/mean", "BGR", change("input/mean", lambda v: v[::-1])),
    Fault("no mean", "onnx", "input", "input/mean", "mean", change("input/mean", np.zeros_like)),
    # constants
    Fault("epsilon 1e-6", "onnx", "preL2", "", "epsilon", rebuild=epsilon("preL2", 1e-6)),
    Fault("epsilon 1e-6", "savedmodel", "vlad:intranorm", "", "epsilon", rebuild=epsilon("vlad.3Aintranorm", 1e-6)),
    Fault("epsilon 1e-6", "onnx", "postL2", "", "epsilon", rebuild=epsilon("postL2", 1e-6)),
    Fault("epsilon 1e-6", "savedmodel", "finalL2", "", "epsilon", rebuild=epsilon("finalL2", 1e-6)),
    Fault("pool after relu", "onnx", "pool1", "", "order", relu_before_pool),
    Fault("pool after relu", "keras", "pool1", "", "order", relu_before_pool),
    Fault("LRN's alpha", "onnx", "norm1", "", "LRN", lrn("norm1", (5, 1.0, 1e-4, 0.75)), source="caffe"),
    Fault("LRN's window", "keras", "norm2", "", "LRN", lrn("norm2", (3, 1.0, 2e-5, 0.75)), source="caffe"),
    Fault("one weight of a group", "onnx", "conv4", "conv4/kernel", "", nudge("conv4/kernel", (1, 1, 3, 40)), source="caffe"),
    # precision and provenance
    Fault("one layer in float16", "onnx", "conv4_1", "conv4_1/kernel", "float16", change("conv4_1/kernel", half)),
    Fault("one layer in float16", "h5", "WPCA", "WPCA/kernel", "float16", change("WPCA/kernel", half)),
    Fault("scaled", "savedmodel", "conv2_2", "conv2_2/kernel", "scale", change("conv2_2/kernel", lambda v: v * 1.001)),
    Fault("other weights", "onnx", "conv1_1", "conv1_1/kernel", "other", other_weights),
    Fault("other weights", "keras", "conv1_1", "conv1_1/kernel", "other", other_weights),
    Fault("a NaN", "onnx", "conv3_1", "conv3_1/kernel", "", poison("conv3_1/kernel", (0, 0, 0, 0))),
    Fault("a NaN", "savedmodel", "WPCA", "WPCA/bias", "", poison("WPCA/bias", (2,))),
]  # fmt: skip


def made(fault: Fault | None, format: str, source: str, folder: Path) -> Path:
    """The source as an artifact, with the fault in it."""
    checkpoint = SOURCES[source]
    spec = spec_from(checkpoint)
    weights = {name: np.array(values) for name, values in weights_of(checkpoint, spec).items()}
    if fault:
        spec = fault.plant(weights, spec) or spec
    model: Any = build(spec, weights)
    if fault and fault.rebuild:
        fault.rebuild(model)
    path = folder / FILES[format]
    formats.load(formats.ARTIFACTS[format]).write(model, path, WriteOptions())
    return path


def verdict(path: Path, source: str) -> Verdict:
    report = witness(SOURCES[source], {path.name: open_artifact(path)})
    return next((c.verdict for c in report.columns if not c.verdict.passed), Verdict(True))


SCORE: list[tuple[str, str, str, bool, bool]] = []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.format}-{f.layer}-{f.name}")
def test_a_planted_fault_is_caught_and_charged(fault: Fault, tmp_path: Path) -> None:
    found = verdict(made(fault, fault.format, fault.source, tmp_path), fault.source)
    charged = (found.first_bad_layer, found.tensor) == (fault.layer, fault.tensor)
    named = fault.cause.lower() in found.cause.lower()
    SCORE.append((fault.name, fault.format, fault.layer, not found.passed, charged and named))
    assert not found.passed
    assert (found.first_bad_layer, found.tensor) == (fault.layer, fault.tensor), found.sentence
    assert named, found


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("format", FILES)
def test_a_faithful_artifact_passes_on_every_input(
    format: str, source: str, tmp_path: Path
) -> None:
    found = verdict(made(None, format, source, tmp_path), source)
    assert found.passed, found.sentence


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(FAULTS) >= 40
    assert {fault.format for fault in FAULTS} == set(FILES)


@pytest.fixture(scope="module", autouse=True)
def score() -> Any:
    """The table, when all is done; `-s` shows it."""
    yield
    caught = sum(row[3] for row in SCORE)
    charged = sum(row[4] for row in SCORE)
    for name, format, layer, was_caught, was_charged in SCORE:
        words = ("caught" if was_caught else "MISSED", "charged" if was_charged else "NOT CHARGED")
        print(f"\n{format:10} {layer:15} {name:30} {words[0]}, {words[1]}", end="")
    print(f"\n{caught} of {len(SCORE)} caught, {charged} charged to the right layer and cause")
