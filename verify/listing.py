"""What `diff` and `images` print."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify.diff import Difference
from verify.ranking import Gate
from verify.unnamed import Alignment

__all__ = ["alignment", "differences", "gate"]

#: Names that are written out in one line.
_FEW = 8


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)


def differences(found: Sequence[Difference], rtol: float) -> bool:
    """Print every layer, and whether all are within `rtol`; the answer is returned."""
    table = Table("layer", "max |d| / max", "at", "first", "second", "", box=None)
    bad = [row for row in found if row.problem or not row.max_rel <= rtol]
    for row in found:
        word = row.problem or ("DIFFERENT" if row in bad else "")
        numbers = ("", "", "", "") if row.problem else (
            f"{row.max_rel:.1e}", str(row.worst), f"{row.first:.7g}", f"{row.second:.7g}"
        )  # fmt: skip
        table.add_row(escape(row.layer), *numbers, word)
    console = _console()
    console.print(table)
    verdict = (
        f"different: first at {bad[0].layer}"
        if bad
        else f"the same within {rtol:g} in {len(found)} layers"
    )
    console.print(verdict if found else "nothing was compared", highlight=False, markup=False)
    return bool(found) and not bad


def alignment(found: Alignment, inputs: Sequence[str]) -> None:
    """Print the pairs, what was not paired, and the verdict."""
    table = Table("first", "shape", "second", "shape", "max |d| / max", "next nearest", "ratio",
                  "paired by", box=None)  # fmt: skip
    for pair in (*found.matching.fixed, *found.matching.found):
        shapes = found.shapes[0][pair.first], found.shapes[1][pair.second]
        one, other = ("×".join(map(str, shape)) for shape in shapes)
        rival = "none" if math.isinf(pair.runner_up) else f"{pair.runner_up:.1e}"
        table.add_row(
            escape(pair.first), one, escape(pair.second), other, f"{pair.agreement:.1e}", rival,
            f"{pair.ratio:.0e}", pair.by,
        )  # fmt: skip
    console = _console()
    console.print(table)
    for each in found.matching.ambiguous:
        _plain(console, f"not paired, more than one fits: {_few(each.first)} | {_few(each.second)}")
    for word, values in zip(("first", "second"), found.alone, strict=True):
        if values:
            _plain(console, f"only the {word} has {len(values)}: {_few(values)}")
    _plain(console, f"inputs: {', '.join(inputs)}")
    _plain(console, found.sentence)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _plain(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def gate(found: Gate) -> None:
    """Print how far each artifact is from the first, and the verdict."""
    counts = list(found.agreements[0].recall)
    table = Table(
        "artifact", "dims", "max L2", "min cosine", "worst image", "top-1", f"top-{found.k}",
        f"recall@{'/'.join(map(str, counts)) or 'N'}", "change", box=None,
    )  # fmt: skip
    for row in found.agreements:
        recall = " / ".join(f"{100 * row.recall[n]:.2f}" for n in counts)
        change = " / ".join(f"{100 * row.recall_change[n]:+.2f}" for n in counts)
        table.add_row(
            escape(row.artifact), str(row.dimension), f"{row.max_l2:.1e}",
            f"{row.min_cosine:.9f}", escape(row.worst.name), f"{100 * row.top1:.1f} %",
            f"{100 * row.topk:.1f} %", recall or "-", change or "-",
        )  # fmt: skip
    console = _console()
    console.print(table)
    for path, reason in found.broken.items():
        console.print(f"not read: {path}: {reason}", highlight=False, markup=False)
    said = "agree" if found.passed else "do not agree"
    console.print(
        f"{found.images} images, {found.queries} queries, {len(found.broken)} unreadable: the "
        f"artifacts {said} (L2 up to {found.limit:g}, the same first match)",
        highlight=False,
        markup=False,
    )
