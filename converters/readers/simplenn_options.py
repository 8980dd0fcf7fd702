"""The settings of layers by kind, with the defaults that MatConvNet fills in.

The defaults are those of `vl_simplenn_tidy` and of MatConvNet's block functions
(vl_nnconv, vl_nnpool, vl_nnnormalize, vl_nnbnorm, vl_nndropout, vl_nnconcat);
where the classes of a DagNN have others, its reader fills them in before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from converters.readers.mat_value import Number, Struct, Value, describe, is_empty, numbers, plain

__all__ = ["is_known", "options", "unsaid"]


def is_known(kind: str) -> bool:
    """Whether a kind has a table of settings."""
    return kind in _SETTINGS


def options(kind: str, struct: Struct) -> dict[str, Any]:
    """A layer's settings: of a known kind exactly those of the table, else all it has.

    Spatial settings come in full (a scalar pad four times, a scalar stride
    twice). Raises ValueError that names the setting.
    """
    if kind not in _SETTINGS:
        found = {name: plain(struct[name]) for name in struct if name not in _BOOKKEEPING}
        return {name: value for name, value in found.items() if value not in (None, (), "")}
    struct = struct | _given_as_arguments(kind, struct.get("opts"))
    settings = {}
    for name, (read, default) in _SETTINGS[kind].items():
        value = struct.get(name)
        if is_empty(value) and default is None:
            raise ValueError(f"has no {name}")
        try:
            settings[name] = default if value is None or is_empty(value) else read(value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
    return settings


def unsaid(kind: str, struct: Struct) -> tuple[str, ...]:
    """What an unknown kind holds that is no plain setting, and so is not in its options."""
    if kind in _SETTINGS:
        return ()
    return tuple(
        f"{name} ({describe(value)})"
        for name, value in struct.items()
        if name not in _BOOKKEEPING and not is_empty(value) and plain(value) is None
    )


def _given_as_arguments(kind: str, opts: Value | None) -> Struct:
    """Settings in `opts`, which MatConvNet hands to the block's function last: {'leak', 0.1}."""
    if not isinstance(opts, list):
        return {}
    known = {name.lower(): name for name in _SETTINGS[kind]}
    return {
        known[word.lower()]: value
        for word, value in pairwise(opts)
        if isinstance(word, str) and word.lower() in known
    }


def _grid(value: Value, *, count: int, least: int) -> tuple[int, ...]:
    """`count` whole numbers, or one that stands for all of them."""
    given = _some(value)
    if len(given) not in (1, count):
        raise ValueError(f"has {len(given)} numbers where 1 or {count} belong")
    whole = tuple(n for n in given if isinstance(n, int) and n >= least)
    if len(whole) < len(given):
        raise ValueError(f"is {given}, where whole numbers from {least} on belong")
    return whole * count if len(whole) == 1 else whole


def _exactly(value: Value, *, count: int) -> tuple[Number, ...]:
    given = _some(value)
    if len(given) != count:
        raise ValueError(f"has {len(given)} numbers where {count} belong")
    return given


def _one(value: Value) -> Number:
    return _exactly(value, count=1)[0]


def _flag(value: Value) -> bool:
    return bool(_one(value))


def _axis(value: Value) -> int:
    axis = _one(value)
    if axis not in (1, 2, 3, 4):
        raise ValueError(f"is {axis}, an axis is 1, 2, 3 or 4")
    return int(axis)


def _count(value: Value) -> int:
    count = _one(value)
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"is {count}, where a whole number from 1 on belongs")
    return count


def _method(value: Value) -> str:
    if value not in ("max", "avg"):
        raise ValueError(
            f"is {value if isinstance(value, str) else describe(value)}, not max or avg"
        )
    return str(value)


def _some(value: Value) -> tuple[Number, ...]:
    given = numbers(value)
    if given is None:
        raise ValueError(f"is {describe(value)} where numbers belong")
    return given


_PAD = partial(_grid, count=4, least=0)
_STEP = partial(_grid, count=2, least=1)
_CROP = partial(_grid, count=2, least=0)
_TWO, _FOUR = partial(_exactly, count=2), partial(_exactly, count=4)

# Kind -> setting -> how it is read, and what it is where the file does not say
# (None: it must say).
_SETTINGS: Mapping[str, Mapping[str, tuple[Callable[[Value], Any], Any]]] = {
    "conv": {"pad": (_PAD, (0,) * 4), "stride": (_STEP, (1, 1)), "dilate": (_STEP, (1, 1))},
    "convt": {
        "crop": (_PAD, (0,) * 4),
        "upsample": (_STEP, (1, 1)),
        "numGroups": (_count, 1),
    },
    "pool": {
        "method": (_method, "max"),
        "pool": (_STEP, None),
        "stride": (_STEP, (1, 1)),
        "pad": (_PAD, (0,) * 4),
    },
    "relu": {"leak": (_one, 0)},
    "normalize": {"param": (_FOUR, (5, 1, 2e-5, 0.75))},
    "bnorm": {"epsilon": (_one, 1e-5)},
    "dropout": {"rate": (_one, 0.5)},
    "concat": {"dim": (_axis, 3)},
    "sum": {},
    "product": {},
    "scale": {"hasBias": (_flag, True)},
    "crop": {"crop": (_CROP, (0, 0))},
    "flatten": {"axis": (_axis, 3)},
    "softmax": {},
    "sigmoid": {},
    "normoffset": {"param": (_TWO, None)},
    "spnorm": {"param": (_FOUR, None)},
    "bilinearsampler": {},
    "affinegrid": {"Ho": (_count, None), "Wo": (_count, None)},
    "layerVLAD": {},
    "layerVLADv2": {},
    "layerWholeL2Normalize": {},
    "layerTotalMaxPool": {},
    "layerTotalAvgPool": {},
}
# Fields that say nothing about what a layer computes.
_BOOKKEEPING = frozenset(
    (
        *("type", "name", "weights", "filters", "biases", "precious", "opts"),
        *("learningRate", "weightDecay", "momentum"),
    )
)
