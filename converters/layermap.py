"""The engine that carries tensors from a source's names and axes to a model's.

A map is a table of `Rule` rows, never a procedure. `apply` uses every source
tensor or ignores it by name, fills every target exactly once with the right
shape, and reports all misfits in one `MappingError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import einops
import numpy as np

from converters.checkpoint import Array
from converters.errors import MappingError

__all__ = ["Rule", "apply", "carried", "expand"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: which source tensor fills which target, and how.

    axes   einops notation, `"1 1 i o -> i o"`; empty: as it is.
    sizes  pairs (axis, size) for axes that the notation splits.
    part   an index per leading axis, `None` for the whole axis; `(None, 0)`
           picks a column, `(0, 0)` a pixel.
    sign   -1 negates (cluster centres that are stored negated).
    """

    source: str
    target: str
    axes: str = ""
    sizes: tuple[tuple[str, int], ...] = ()
    part: tuple[int | None, ...] | None = None
    sign: int = 1


def expand(
    table: Mapping[str, tuple[Rule, ...]], layers: Iterable[tuple[str, str, Sequence[str]]]
) -> tuple[Rule, ...]:
    """Write out a table of rules for (name, kind, tensors) of each layer.

    `{name}` stands for the layer's name, `{0}` for its first tensor; of one
    that the layer does not have there is no rule. The table is looked up by the
    layer's name and then by its kind; a layer without rows has no weights.
    """
    return tuple(
        written
        for name, kind, tensors in layers
        for rule in table.get(name, table.get(kind, ()))
        if (written := _written(rule, name, tensors))
    )


def _written(rule: Rule, name: str, tensors: Sequence[str]) -> Rule | None:
    try:
        source = rule.source.format(*tensors, name=name)
    except IndexError:
        return None
    return replace(rule, source=source, target=rule.target.format(name=name))


def carried(rule: Rule, tensor: Array) -> Array:
    """What a rule makes of a tensor, a view where the notation allows it.

    Raises `ValueError` for a tensor that the rule's notation does not fit.
    """
    try:
        return _carry(rule, tensor)
    except (einops.EinopsError, IndexError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{rule.source} has shape {tensor.shape}: {reason}") from error


def apply(
    rules: Iterable[Rule],
    tensors: Mapping[str, Array],
    expected: Mapping[str, tuple[int, ...]],
    *,
    ignore: Collection[str] = (),
) -> dict[str, Array]:
    """Map `tensors` onto the targets `expected` (name -> shape).

    Returns views where the notation allows it. Raises `MappingError` with
    every missing, unexpected and misshapen tensor.
    """
    rules = tuple(rules)
    filled: dict[str, Array] = {}
    misfits = {
        target: f"filled by {count} rules, must be filled by one"
        for target, count in Counter(rule.target for rule in rules).items()
        if count > 1
    }
    missing: dict[str, None] = {}
    for rule in rules:
        if rule.target not in expected:
            misfits[rule.target] = "the map fills it, but the model has no such weight"
        elif rule.source not in tensors:
            missing[f"{rule.target} (from {rule.source})"] = None
        else:
            _fill(rule, tensors[rule.source], expected[rule.target], filled, misfits)
    targets = {rule.target for rule in rules}
    missing |= dict.fromkeys(name for name in expected if name not in targets)
    used = {rule.source for rule in rules} | set(ignore)
    unexpected = [name for name in tensors if name not in used]
    if missing or unexpected or misfits:
        raise MappingError(tuple(missing), unexpected, misfits)
    return filled


def _fill(
    rule: Rule,
    tensor: Array,
    shape: tuple[int, ...],
    filled: dict[str, Array],
    misfits: dict[str, str],
) -> None:
    try:
        value = carried(rule, tensor)
    except ValueError as error:
        misfits[rule.target] = str(error)
        return
    if value.shape != tuple(shape):
        misfits[rule.target] = (
            f"{rule.source} gives shape {value.shape}, the model has {tuple(shape)}"
        )
        return
    filled[rule.target] = value


def _carry(rule: Rule, tensor: Array) -> Array:
    if rule.part is not None:
        tensor = tensor[tuple(slice(None) if i is None else i for i in rule.part)]
    if rule.axes:
        tensor = einops.rearrange(tensor, rule.axes, **dict(rule.sizes))
    return tensor if rule.sign == 1 else np.negative(tensor)
