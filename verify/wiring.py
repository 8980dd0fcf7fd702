"""Which layers an artifact's layers read, and in what order, against the source's graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from converters.checkpoint import Checkpoint
from verify.capture import Runner
from verify.names.canonical import IMAGE

__all__ = ["misread", "order"]

Reads = Mapping[str, Sequence[str]]


def order(checkpoint: Checkpoint, runner: Runner, layer: str) -> str:
    """Whether the artifact runs this layer and another in each other's place, in words."""
    expected = [each.name for each in checkpoint.layers]
    found = [name for name in runner.layers if name in expected]
    if sorted(found) != sorted(expected) or found == expected:
        return ""
    at = next(i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b)
    first, second = expected[at], found[at]
    reads = _reads(runner)
    if layer not in (first, second) or (reads and second not in _behind(first, reads)):
        return ""
    kinds = {each.name: each.kind for each in checkpoint.layers}
    if kinds[first] == kinds[second]:
        return f"the names of {first} and {second} are exchanged"
    return f"the order: {second} runs before {first}, in the source behind it"


def misread(checkpoint: Checkpoint, runner: Runner) -> dict[str, str]:
    """Layer -> which layers it reads in place of which, where they are not the source's.

    Only layers that both have are compared: what reads a layer that the other lacks is taken to
    read what that one reads. Empty for a runner that does not know what its layers read.
    """
    found, source = _reads(runner), {each.name: each.inputs for each in checkpoint.layers}
    if any("input" in inputs for inputs in source.values()):
        source = {"input": (IMAGE,), **source}
    both = [name for name in source if name in found]
    different = {}
    for name in both:
        here, there = (_nearest(name, reads, both) for reads in (found, source))
        if here.keys() != there.keys():
            different[name] = f"reads {', '.join(here)}, in the source {', '.join(there)}"
    return different


def _reads(runner: Runner) -> Reads:
    """What only some runners know: a `.mat` has its layers in a row."""
    reads: Reads = getattr(runner, "reads", {})
    return reads


def _nearest(layer: str, reads: Reads, seen: Collection[str]) -> dict[str, None]:
    """The layers of `seen` that a layer is computed from; what no layer makes is the image."""
    found: dict[str, None] = {}
    waiting = list(reversed(reads[layer]))
    while waiting:
        name = waiting.pop()
        if name in seen:
            found[name] = None
        elif name in reads:
            waiting += reversed(reads[name])
        else:
            found[IMAGE] = None
    return found


def _behind(layer: str, reads: Reads) -> set[str]:
    """All that a layer is computed from."""
    found: set[str] = set()
    waiting = [layer]
    while waiting:
        for name in reads.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found
