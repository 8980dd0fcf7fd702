"""What `explain` prints, for people and as JSON."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verify.explain import Explanation, Trial

__all__ = ["as_json", "as_text"]


def as_text(found: Explanation, options: argparse.Namespace) -> str:
    """The verdict in the last line that is not indented."""
    lines = [f"{options.descriptor.name} beside what {options.model.name} makes of "
             f"{options.image.name}: L2 {_number(found.before)}"]  # fmt: skip
    if found.same:
        lines.append("the same: there is nothing to explain")
    elif found.causes:
        first, *others = found.causes
        lines.append(f"explained by: {_words(first)}")
        lines += [f"  or, which this picture does not tell apart: {_words(t)}" for t in others]
        lines.append(f"  with that L2 is {_number(first.distance)}")
    else:
        lines.append("none of what was tried explains it; the nearest:")
        lines += [f"  L2 {_number(trial.distance)}: {_words(trial)}" for trial in found.nearest]
    if found.singles:
        lines.append(_count(found))
    return "\n".join(lines)


def _count(found: Explanation) -> str:
    text = f"{found.singles} hypotheses tried alone"
    if found.refused:
        text += f", {found.refused} of them not: the model does not take what they make"
    if found.possible:
        text += f"; {found.pairs} of {found.possible} pairs"
        if not found.causes and found.pairs < found.possible:
            text += ", the most promising first (more: --budget SECONDS)"
    return f"{text}; {found.seconds:.1f} s"


def _words(trial: Trial) -> str:
    return ", and ".join(row.words for row in trial.hypotheses)


def _number(distance: float) -> str:
    return "-, theirs is longer than ours" if math.isinf(distance) else f"{distance:.2e}"


def as_json(found: Explanation, options: argparse.Namespace) -> str:
    """One object; a distance that there is not is null."""
    outcome = "same" if found.same else "explained" if found.causes else "none"
    return json.dumps(
        {
            "outcome": outcome,
            "model": str(options.model),
            "image": str(options.image),
            "descriptor": str(options.descriptor),
            "before": _finite(found.before),
            "causes": _trials(found.causes),
            "nearest": _trials(found.nearest),
            "singles": found.singles,
            "refused": found.refused,
            "pairs": found.pairs,
            "possible_pairs": found.possible,
            "seconds": round(found.seconds, 3),
        },
        ensure_ascii=False,
    )


def _trials(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    return [
        {
            "hypotheses": [{"name": row.name, "words": row.words} for row in trial.hypotheses],
            "distance": _finite(trial.distance),
        }
        for trial in trials
    ]


def _finite(distance: float) -> float | None:
    return distance if math.isfinite(distance) else None
