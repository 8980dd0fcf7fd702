"""The order in which a graph of layers can be executed."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

__all__ = ["cycles", "in_order"]

#: Layer -> the layers that it reads.
Reads = Mapping[str, Collection[str]]


def cycles(reads: Reads) -> dict[str, str]:
    """Layer -> the cycle that it is in, in words; empty where every layer can be executed."""
    faults: dict[str, str] = {}
    while True:
        try:
            TopologicalSorter(reads).prepare()
        except CycleError as error:
            loop: list[str] = error.args[1]
            faults |= dict.fromkeys(loop, f"is in a cycle: {' → '.join(loop)}")
            reads = {
                name: [source for source in sources if source not in faults]
                for name, sources in reads.items()
                if name not in faults
            }
        else:
            return faults


def in_order(reads: Reads) -> list[str]:
    """Each layer after all that it reads; the given order wherever that is one."""
    place = {name: index for index, name in enumerate(reads)}
    sorter = TopologicalSorter(reads)
    sorter.prepare()
    ready: list[tuple[int, str]] = []
    order: list[str] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, (place[name], name))
        _, first = heapq.heappop(ready)
        order.append(first)
        sorter.done(first)
    return order
