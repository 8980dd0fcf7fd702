"""Why a tensor is wrong: hypotheses that are tried on the source's values.

Each is a row of a literal table; the first that gives the values that were found is the cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from verify.capture import Array

__all__ = ["Suspect", "weights"]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A weight that differs: its canonical name, the source's values, those found.

    source, artifact  all weights of both, for hypotheses that reach further.
    """

    name: str
    right: Array
    found: Array
    source: Mapping[str, Array]
    artifact: Mapping[str, Array]


def weights(suspect: Suspect) -> str:
    """The cause in words, or `""` if none of the hypotheses gives the values that were found."""
    same = suspect.right.shape == suspect.found.shape
    for hypothesis in _HYPOTHESES if same else _OF_ANY_SHAPE:
        if cause := hypothesis(suspect):
            return cause
    return ""


def _other_net(s: Suspect) -> str:
    shared = [n for n in s.source if n in s.artifact and s.source[n].size > 1]
    others = [n for n in shared if not _mostly_equal(s.source[n], s.artifact[n])]
    if len(others) > max(3, 0.5 * len(shared)):
        return f"the weights of another net: {len(others)} of {len(shared)} tensors are others"
    return ""


def _mostly_equal(right: Array, found: Array) -> bool:
    return right.shape == found.shape and bool(np.mean(right == found) > 0.5)


def _zeros(s: Suspect) -> str:
    if s.found.any():
        return ""
    part = s.name.rsplit("/", 1)[1]
    return {"bias": "a missing bias", "mean": "a missing mean"}.get(part, "zeros") + ": all are 0"


def _mean(s: Suspect) -> str:
    if not s.name.endswith("/mean"):
        return ""
    if np.array_equal(s.found, s.right[::-1]):
        return "the mean is in the order BGR"
    shift = s.found.astype(np.float64) - s.right
    return f"a shifted mean: by {', '.join(f'{value:.4g}' for value in shift)}"


def _sign(s: Suspect) -> str:
    if np.array_equal(s.found, -s.right):
        return "the sign of all values"
    columns = s.right.reshape(-1, s.right.shape[-1]), s.found.reshape(-1, s.right.shape[-1])
    wrong = np.flatnonzero((columns[0] != columns[1]).any(axis=0))
    if len(wrong) and np.array_equal(columns[1][:, wrong], -columns[0][:, wrong]):
        return f"the sign of output {', '.join(map(str, wrong[:5]))}"
    return ""


def _channels(s: Suspect) -> str:
    if s.right.ndim == 4 and s.right.shape[2] == 3 and np.array_equal(s.found, s.right[:, :, ::-1]):
        return "the channel order BGR in place of RGB"
    return ""


def _fastest(s: Suspect) -> str:
    """WPCA's rows follow the flattened vector, d·K + k; a port had k·D + d."""
    centers = s.source.get("vlad:core/centers")
    if s.name != "WPCA/kernel" or centers is None:
        return ""
    width, clusters = centers.shape
    if len(s.right) != width * clusters:
        return ""
    rows = s.right.reshape(width, clusters, -1).transpose(1, 0, 2).reshape(s.right.shape)
    if np.array_equal(s.found, rows):
        return "the cluster order: D fastest where the source has K fastest"
    rows = s.right.reshape(clusters, width, -1).transpose(1, 0, 2).reshape(s.right.shape)
    return "the cluster order, turned twice" if np.array_equal(s.found, rows) else ""


_AXES: dict[tuple[int, ...], str] = {
    (1, 0, 2, 3): "height and width swapped",
    (0, 1, 3, 2): "the axes in and out swapped",
}


def _axes(s: Suspect) -> str:
    for axes in itertools.permutations(range(s.right.ndim)):
        turned = s.right.transpose(axes)
        if axes == tuple(range(s.right.ndim)) or turned.size == 0:
            continue
        if turned.size == s.found.size and np.array_equal(turned.reshape(s.found.shape), s.found):
            return _AXES.get(axes, f"the axes permuted as {axes}")
    return ""


def _flipped(s: Suspect) -> str:
    if s.right.ndim == 4 and np.array_equal(s.found, s.right[::-1, ::-1]):
        return "the kernel turned by 180 degrees, convolution for correlation"
    return ""


def _outputs(s: Suspect) -> str:
    """Every output is there, at another place."""
    if s.right.ndim < 2:
        return ""
    right, found = (a.reshape(-1, a.shape[-1]) for a in (s.right, s.found))
    place = {np.ascontiguousarray(right[:, i]).tobytes(): i for i in range(right.shape[1])}
    now = [place.get(np.ascontiguousarray(found[:, i]).tobytes()) for i in range(found.shape[1])]
    if None in now or sorted(i for i in now if i is not None) != list(range(len(now))):
        return ""
    moved = [i for i, before in enumerate(now) if i != before]
    return f"outputs swapped: {', '.join(map(str, moved[:6]))}" if moved else ""


def _half(s: Suspect) -> str:
    with np.errstate(over="ignore"):
        rounded = s.right.astype(np.float16).astype(np.float32)
    return "rounded to float16" if np.array_equal(s.found, rounded) else ""


def _scaled(s: Suspect) -> str:
    energy = float(np.vdot(s.right, s.right))
    factor = float(np.vdot(s.right, s.found)) / energy if energy else 0.0
    if factor > 0 and np.allclose(s.found, factor * s.right, rtol=1e-5, atol=0):
        return f"a scale of {factor:.6g}"
    return ""


def _elsewhere(s: Suspect) -> str:
    for name, values in s.source.items():
        if name != s.name and values.shape == s.found.shape and np.array_equal(values, s.found):
            return f"these are the values of {name}"
    return ""


_HYPOTHESES: tuple[Callable[[Suspect], str], ...] = (
    _other_net,
    _zeros,
    _mean,
    _sign,
    _channels,
    _fastest,
    _axes,
    _flipped,
    _outputs,
    _half,
    _scaled,
    _elsewhere,
)
_OF_ANY_SHAPE = (_other_net, _axes)
