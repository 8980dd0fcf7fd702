"""Reports of NetVLAD with VGG-16 as a verification gives them, built by hand: good and bad."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from verify.result import Column, LayerResult, Measure, Regime, Report, Verdict, WeightResult

SOURCE = "vd16_pitts30k_conv5_3_vlad_preL2_intra_white.mat"
ARTIFACTS = {
    f"{SOURCE} (float32)": "mat",
    "TF1 graph": "tf_graph",
    "model.keras": "keras",
    "model.h5": "h5",
    "saved_model": "savedmodel",
    "model.onnx": "onnx",
}
REGIMES = {"photograph": (1, 480, 640, 3), "black": (1, 480, 640, 3), "odd size": (1, 227, 301, 3)}
BLOCKS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}
CONVS = [f"conv{block}_{n}" for block, count in BLOCKS.items() for n in range(1, count + 1)]
HEAD = ("preL2", "vlad:core", "vlad:intranorm", "postL2", "WPCA", "finalL2")
#: What rounding costs in float32, relative to the layer; what is not here, nothing of its own.
ROUNDING = {"preL2": 6e-8, "vlad:core": 5e-6, "vlad:intranorm": 4e-7, "postL2": 9e-8, "WPCA": 4e-7}


def layer_names() -> tuple[str, ...]:
    """`input` and the source's 35: a pool stands before the relu of blocks 1 to 4."""
    names = ["input"]
    for conv, after in pairwise([*CONVS, ""]):
        names.append(conv)
        if conv != "conv5_3":
            ends = after[4] != conv[4]
            names += [f"pool{conv[4]}"] if ends else []
            names.append(f"relu{conv[4:]}")
    return (*names, *HEAD)


def measure(roundings: float, unit: float, limit: float = 16.0, scale: float = 40.0) -> Measure:
    """As of an error of `roundings` times `unit`, in a layer whose largest value is `scale`."""
    rms = roundings * unit
    largest = rms * 5.5
    return Measure(
        max_abs=largest * scale,
        max_rel=largest,
        rms_rel=rms,
        cosine=1 - rms**2 / 2,
        snr_db=-20 * math.log10(rms) if rms else math.inf,
        worst=(0, 12, 7, 31),
        reference=0.62 * scale,
        found=0.62 * scale + largest * scale,
        roundings=roundings,
        limit=limit,
        peak=roundings * 1.3,
        peak_limit=limit * 1.5,
    )


def histogram(rms: float, rng: random.Random) -> tuple[int, ...]:
    """Twenty bins of half a decade, around `rms`."""
    if not rms:
        return (100_000, *(0 for _ in range(19)))
    centre = (math.log10(rms) + 10) * 2
    return tuple(
        int(1e5 * math.exp(-((n - centre) ** 2) / 3) * rng.uniform(0.7, 1)) for n in range(20)
    )


def layer_result(layer: str, own: float, inherited: float, rng: random.Random) -> LayerResult:
    """With errors in roundings."""
    unit = ROUNDING.get(layer, 2e-7)
    there = measure(inherited, unit)
    size = (1, 4096) if layer in ("WPCA", "finalL2") else (1, 30, 40, 512)
    counts = histogram(there.rms_rel, rng)
    return LayerResult(layer, size, there, measure(own, unit, 4.0), histogram=counts)


def weights() -> tuple[WeightResult, ...]:
    """Every tensor, the same bits."""
    sizes = {"input/mean": 3, "vlad:core/kernel": 32768, "vlad:core/centers": 32768}
    sizes |= {f"{conv}/kernel": 589_824 for conv in CONVS} | {f"{conv}/bias": 256 for conv in CONVS}
    sizes |= {"WPCA/kernel": 134_217_728, "WPCA/bias": 4096}
    return tuple(WeightResult(name, size, 0) for name, size in sizes.items())


def faithful(regimes: Mapping[str, tuple[int, ...]], artifacts: Mapping[str, str]) -> Report:
    """Everything passes."""
    rng = random.Random(0)

    def column(artifact: str, kind: str) -> Column:
        exact = ("input", "pool", "relu")
        rows = []
        for layer in layer_names():
            own = 0.0 if layer.startswith(exact) else rng.uniform(0.5, 1.6)
            carried = 0.0 if layer == "input" else rng.uniform(0.6, 2.4)
            rows.append(layer_result(layer, own, carried, rng))
        good = Verdict(True, sentence=f"{artifact} computes what the source computes.")
        path = f"artifacts/pitts30k/{artifact}"
        return Column(artifact, kind, path, tuple(rows), weights(), good, seconds=rng.uniform(1, 9))

    floor = {n: ROUNDING.get(n, 2e-7 * n.startswith("conv")) for n in layer_names()}
    return Report(
        reference=SOURCE,
        layers=layer_names(),
        regimes=tuple(
            Regime(name, shape, tuple(column(*each) for each in artifacts.items()))
            for name, shape in regimes.items()
        ),
        rounding=dict.fromkeys(regimes, floor),
        manifest={
            "schema": 1,
            "name": "pitts30k",
            "source": {"name": SOURCE, "sha256": "3f" * 32, "licence": "MIT"},
            "transformations": ["mean folded into the net"],
        },
        versions={"numpy": "2.4.6", "onnxruntime": "1.32.0", "tensorflow": "2.21.0 (oneDNN off)"},
        command="netvlad-verify check artifacts/pitts30k",
    )


NOT_FINITE = "7 of 4096 values are NaN or infinite, the first at (0, 3)"

Change = Callable[[Column], Column]


def changed(report: Report, artifact: str, change: Change) -> Report:
    """One artifact changed, on every input."""
    regimes = [
        replace(r, columns=tuple(change(c) if c.artifact == artifact else c for c in r.columns))
        for r in report.regimes
    ]
    return replace(report, regimes=tuple(regimes))


def _rows(column: Column, change: Callable[[LayerResult], LayerResult]) -> tuple[LayerResult, ...]:
    return tuple(change(row) for row in column.layers)


def bad_weight(column: Column) -> Column:
    """One value of conv3_2/kernel, 1 % of its spread: made there, carried by all that follow."""
    order, rng = layer_names(), random.Random(1)
    place = order.index("conv3_2")

    def change(row: LayerResult) -> LayerResult:
        after = order.index(row.layer) - place
        if after < 0:
            return row
        own = row.own.roundings if row.own and after else 812.0
        return layer_result(row.layer, own, 812 * 0.93**after * rng.uniform(0.8, 1.1), rng)

    wrong = WeightResult("conv3_2/kernel", 589_824, 1, 0.0021, (1, 2, 30, 7), 0.0312, 0.0327)
    rows = tuple(wrong if row.name == wrong.name else row for row in column.weights)
    sentence = (
        f"{column.artifact} differs from the source: the first bad layer is conv3_2, "
        "where 1 of 589,824 values of conv3_2/kernel differs."
    )
    verdict = Verdict(False, "conv3_2", "conv3_2/kernel", "a changed weight", sentence)
    return replace(column, layers=_rows(column, change), weights=rows, verdict=verdict)


def missing_layer(column: Column) -> Column:
    def change(row: LayerResult) -> LayerResult:
        gone = LayerResult("relu4_1", (), None, None, "missing: no output goes by this name")
        return gone if row.layer == "relu4_1" else row

    verdict = Verdict(False, "relu4_1", sentence="relu4_1 is missing.")
    return replace(column, layers=_rows(column, change), verdict=verdict)


def nan(column: Column) -> Column:
    def change(row: LayerResult) -> LayerResult:
        if row.layer not in HEAD:
            return row
        return replace(row, inherited=None, problem=NOT_FINITE)

    verdict = Verdict(False, "preL2", cause="float16 overflows in the sum of squares")
    return replace(column, layers=_rows(column, change), verdict=verdict)


def pool_relu(column: Column) -> Column:
    """The relu before the pool in block 1: equal again from conv2_1 on."""

    def change(row: LayerResult) -> LayerResult:
        if row.layer == "relu1_2":
            words = "has shape (1, 480, 640, 64), the source (1, 240, 320, 64)"
            return replace(row, inherited=None, own=None, problem=words)
        if row.layer == "pool1":
            return replace(row, inherited=measure(2.1e6, 2e-7), own=None)
        return row

    cause = "the relu stands before the pool"
    sentence = f"{column.artifact}: pool1 differs, since {cause}."
    verdict = Verdict(False, "pool1", cause=cause, sentence=sentence)
    note = "relu1_2 and pool1 were found by name, not by place"
    return replace(column, layers=_rows(column, change), verdict=verdict, notes=(note,))


def with_variables(report: Report) -> Report:
    """With one more artifact, which has weights but no layers."""
    good = Verdict(True, sentence="the same weights")
    column = Column("variables", "tf_variables", "variables", (), weights(), good)
    regimes = [replace(r, columns=(*r.columns, column)) for r in report.regimes]
    return replace(report, regimes=tuple(regimes))


@dataclass(frozen=True, slots=True)
class Reports:
    """The ways to make a report."""

    passing: Report
    bad_weight: Report
    missing_layer: Report
    nan: Report
    pool_relu: Report
    wrong_hash: Report
    empty: Report
    weights_alone: Report
    several: Report
    large: Report

    def named(self, name: str) -> Report:
        report: Report = getattr(self, name)
        return report


@pytest.fixture(scope="session")
def reports() -> Reports:
    """Six artifacts, 36 layers, three inputs; eight in `large`."""
    good = faithful(REGIMES, ARTIFACTS)
    many = {f"{name} {n}": shape for n in "abc" for name, shape in REGIMES.items()}
    eight = dict(list(many.items())[:8])
    wrong = {"model.onnx": "sha256 is 9c1b…, the manifest says 4f02…"}
    return Reports(
        passing=good,
        bad_weight=changed(good, "model.onnx", bad_weight),
        missing_layer=changed(good, "saved_model", missing_layer),
        nan=changed(good, "model.h5", nan),
        pool_relu=changed(good, "TF1 graph", pool_relu),
        wrong_hash=replace(good, hashes=wrong),
        empty=replace(good, regimes=()),
        weights_alone=with_variables(good),
        several=changed(
            changed(changed(good, "model.h5", nan), "model.onnx", bad_weight),
            "TF1 graph",
            pool_relu,
        ),
        large=changed(faithful(eight, ARTIFACTS), "model.onnx", bad_weight),
    )


@pytest.fixture(scope="session")
def hostile(reports: Reports) -> Report:
    """Names that a foreign file could hold, wherever a name can stand."""
    name = HOSTILE

    def change(column: Column) -> Column:
        result = replace(column.layers[1], layer=name, problem=f"missing: {name}", own=None)
        weight = WeightResult(name, 4, 1, math.nan, (0,), math.inf, -math.inf)
        verdict = Verdict(False, name, name, name, f"{name} differs.")
        return replace(
            column, artifact=name, kind=name, path=name, notes=(name,), verdict=verdict,
            layers=(*column.layers, result), weights=(*column.weights, weight),
        )  # fmt: skip

    report = changed(reports.passing, "model.onnx", change)
    return replace(
        report, reference=name, hashes={name: name}, manifest={name: [name, {name: math.nan}]},
        versions={name: name}, command=name, layers=(*report.layers, name),
        regimes=(replace(report.regimes[0], name=name), *report.regimes[1:]),
    )  # fmt: skip


HOSTILE = (
    "</script><script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"
    "]]>&amp;{{7*7}}|`@someone[a](http://a.invalid)\x1b[31m\u202e\x00\udc80\ufffe\nend"
)
