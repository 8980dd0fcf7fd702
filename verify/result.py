"""What a verification found: one `Report`, plain data, which `verify.report` renders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = [
    "Column",
    "LayerResult",
    "Measure",
    "Ranking",
    "Regime",
    "Report",
    "Verdict",
    "WeightResult",
    "merged",
]


@dataclass(frozen=True, slots=True)
class Measure:
    """One array against its reference, in float64.

    max_abs      largest |d|.
    max_rel      largest |d| over the largest |reference|.
    rms_rel      RMS of d over RMS of the reference.
    cosine       of the two arrays as vectors.
    snr_db       20·log10(RMS reference / RMS d); infinite where d is zero.
    worst        index of the largest |d|, with `reference` and `found` there.
    roundings    RMS of d in units of the layer's float32 rounding.
    limit        of `roundings`, above which it is a difference.
    peak         largest |d| in units of the layer's largest float32 rounding;
                 `peak_limit` likewise.
    """

    max_abs: float
    max_rel: float
    rms_rel: float
    cosine: float
    snr_db: float
    worst: tuple[int, ...]
    reference: float
    found: float
    roundings: float
    limit: float
    peak: float
    peak_limit: float

    @property
    def passed(self) -> bool:
        """Both within their limits."""
        return self.roundings <= self.limit and self.peak <= self.peak_limit


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One layer of one artifact.

    inherited  the whole net run on the image, against the oracle's run.
    own        the layer replayed alone on the reference's input; None where it
               could not be (then `inherited` alone decides).
    problem    what makes a comparison impossible, in words: missing, extra,
               wrong shape, NaN; `""` if it was compared.
    histogram  counts of log10(|d| / max|reference|), bins from -10 to 0 by 0.5,
               the first bin open below.
    """

    layer: str
    shape: tuple[int, ...]
    inherited: Measure | None
    own: Measure | None
    problem: str = ""
    histogram: tuple[int, ...] = ()

    @property
    def passed(self) -> bool:
        """Compared, and every comparison within its limits."""
        if self.problem or (self.inherited is None and self.own is None):
            return False
        return all(measure.passed for measure in (self.inherited, self.own) if measure)


@dataclass(frozen=True, slots=True)
class WeightResult:
    """One tensor of an artifact against the source's, bit for bit.

    different  how many of `size` values differ; `problem` if it cannot be compared.
    max_rel    largest |d| over the largest |source|; `worst` index with both values.
    """

    name: str
    size: int
    different: int
    max_rel: float = 0.0
    worst: tuple[int, ...] = ()
    source: float = 0.0
    found: float = 0.0
    problem: str = ""

    @property
    def passed(self) -> bool:
        """The same bits."""
        return not self.problem and self.different == 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong first, in the graph's order; `passed` if nothing is.

    layer   the first bad layer; `tensor` the weight that differs there, if one does.
    cause   what repairs it when tried, in words; `""` if no hypothesis does.
    """

    passed: bool
    first_bad_layer: str = ""
    tensor: str = ""
    cause: str = ""
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One artifact: every layer, every weight, the verdict."""

    artifact: str
    kind: str
    path: str
    layers: tuple[LayerResult, ...]
    weights: tuple[WeightResult, ...]
    verdict: Verdict
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Regime:
    """One input on which everything was compared: `photograph`, `black`, `small`, ..."""

    name: str
    shape: tuple[int, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The descriptors of one artifact over a set of images, beside those of `against`.

    images, queries  how many; an image is not found by itself.
    max_l2, worst    of all descriptors, and whose it is; `min_cosine`.
    top1, topk       shares of queries with the same first match, with the same `k` in one order.
    limit, least     up to which L2, and from which share of first matches on, it passes.
    broken           image -> why it could not be read.
    """

    artifact: str
    against: str
    images: int
    queries: int
    max_l2: float
    min_cosine: float
    worst: str
    top1: float
    topk: float
    k: int
    limit: float
    least: float
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """No descriptor too far away, and enough first matches the same."""
        return self.max_l2 <= self.limit and self.top1 >= self.least


@dataclass(frozen=True, slots=True)
class Report:
    """All artifacts of one source on all inputs.

    reference  the source, in words; `rounding` layer -> RMS of NumPy float32's
               own rounding over RMS of the layer, per regime name.
    manifest   as it stands beside the artifacts; `{}` without one.
    hashes     file -> what is wrong with its checksum.
    rankings   of the artifacts over a set of images, if one was given.
    """

    reference: str
    layers: tuple[str, ...]
    regimes: tuple[Regime, ...]
    rounding: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    rankings: tuple[Ranking, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of all regimes."""
        return tuple(column for regime in self.regimes for column in regime.columns)

    @property
    def passed(self) -> bool:
        """Something was compared, everything passed, every checksum is right."""
        columns = self.columns
        good = not self.hashes and all(row.passed for row in self.rankings)
        return bool(columns) and good and all(c.verdict.passed for c in columns)

    @property
    def first_failure(self) -> Verdict | None:
        """The verdict of the first column that failed."""
        return next((c.verdict for c in self.columns if not c.verdict.passed), None)


def merged(reports: Sequence[Report]) -> Report:
    """Reports on the same source and inputs, a column from each."""
    columns: dict[str, Regime] = {}
    for each in reports:
        for regime in each.regimes:
            before = columns.get(regime.name)
            joined = (*(before.columns if before else ()), *regime.columns)
            columns[regime.name] = replace(regime, columns=joined)
    hashes = {name: fault for each in reports for name, fault in each.hashes.items()}
    return replace(reports[0], regimes=tuple(columns.values()), hashes=hashes)
