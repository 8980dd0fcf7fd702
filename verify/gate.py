"""Do the artifacts of a report rank a set of images as the first of them does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converters.errors import ConversionError
from verify.declared import quantised, rounded
from verify.formats import find, open_artifact
from verify.images import describe
from verify.names.given import Names
from verify.ranking import Described, compare
from verify.result import Ranking

__all__ = ["LIMITS", "rankings"]

#: What an artifact computes in -> the L2 of a descriptor up to which, and the share of queries
#: with the same first match from which on, it passes. 1.41e-2 is a cosine of 0.9999.
LIMITS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"float32": (1e-4, 1.0), "float16": (1.41e-2, 1.0), "int8": (0.2, 0.95)}
)
_TOP = 10
#: The oracle itself, image by image: no deployment.
_LEFT_OUT = ("mat", "weights", "safetensors", "tf_variables")


def rankings(
    paths: Mapping[str, Path],
    folders: tuple[Sequence[Path], Sequence[Path]],
    names: Names,
    manifest: Mapping[str, Any],
) -> tuple[Ranking, ...]:
    """Every artifact that describes images, beside the first in float32; one open at a time.

    Raises `ConversionError` where none of the images can be read, and where there are fewer than
    two artifacts of this kind.
    """
    numbers = dict.fromkeys(rounded(manifest), "float16")
    numbers |= dict.fromkeys(quantised(manifest), "int8")
    fixed = manifest.get("onnx", {}).get("size")
    size = (int(fixed[0]), int(fixed[1])) if fixed else None
    described: dict[str, tuple[Described, Described]] = {}
    running = {name: path for name, path in paths.items() if find(path).kind not in _LEFT_OUT}
    for name in sorted(running, key=numbers.__contains__):
        artifact = open_artifact(running[name], names)
        database = queries = describe(artifact, folders[0], size)
        if folders[1] != folders[0]:
            queries = describe(artifact, folders[1], size)
        described[name] = database, queries
    if len(described) < 2:
        raise ConversionError(
            "rankings are compared between artifacts, and there is one that describes images",
            advice="Name another, or leave --database and --queries out.",
        )
    first, *others = described
    right = {first: described[first]}
    return tuple(
        _ranking(right | {name: described[name]}, numbers.get(name, "float32")) for name in others
    )


def _ranking(pair: Mapping[str, tuple[Described, Described]], numbers: str) -> Ranking:
    """The second of a pair beside the first."""
    first, name = pair
    limit, least = LIMITS[numbers]
    gate = compare(pair, limit=limit, k=_TOP)
    (row,) = gate.agreements
    return Ranking(
        artifact=name,
        against=first,
        images=gate.images,
        queries=gate.queries,
        max_l2=row.max_l2,
        min_cosine=row.min_cosine,
        worst=row.worst.name,
        top1=row.top1,
        topk=row.topk,
        k=_TOP,
        limit=limit,
        least=least,
        broken={path.name: why for path, why in gate.broken.items()},
    )
