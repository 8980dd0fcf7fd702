"""What `diff` and `images` print."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify.diff import Difference
from verify.images import Gate

__all__ = ["differences", "gate"]


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


def gate(found: Gate) -> None:
    """Print how far each artifact is from the first, and the verdict."""
    table = Table(
        "artifact", "dims", "max L2", "min cosine", "worst image", "top-1", "top-k", "recall@1",
        "change", box=None,
    )  # fmt: skip
    for row in found.agreements:
        recall = f"{100 * row.recall[1]:.2f} %" if row.recall else "-"
        change = f"{100 * row.recall_change[1]:+.2f}" if row.recall else "-"
        table.add_row(
            escape(row.artifact), str(row.dimension), f"{row.max_l2:.1e}",
            f"{row.min_cosine:.9f}", escape(row.worst.name), f"{100 * row.top1:.1f} %",
            f"{100 * row.topk:.1f} %", recall, change,
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
