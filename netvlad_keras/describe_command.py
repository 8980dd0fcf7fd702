"""`netvlad-describe describe`: images -> a file of descriptors; and what all commands share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netvlad_keras import cluster, describe, describer, progress, results
from netvlad_keras.decoding import Resize, listed
from netvlad_keras.errors import RetrievalError

__all__ = ["described", "left_out", "model", "run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Describe as the parsed command line says. Returns what `--json` prints."""
    output = results.check_suffix(options.output)
    _check(options)
    paths = listed(options.images)
    if options.engine == "ray":
        made = _on_a_cluster(options, paths, output)
    else:
        made = described(options, model(options), paths, output)
    if not options.json:
        print(f"{made.new + made.before} images described{left_out(made.faults)}; {output}")
    return {
        "output": str(output),
        "described": made.new,
        "described_before": made.before,
        "faults": dict(made.faults),
    }


def _check(options: argparse.Namespace) -> None:
    """Raise `RetrievalError` for what does not go together."""
    if options.output in options.images:
        raise RetrievalError(f"{options.output}: is given as images, and would be replaced")
    if options.engine != "ray" and (options.address or options.workers):
        raise RetrievalError("--address and --workers are for --engine ray, which is not asked for")


def _on_a_cluster(
    options: argparse.Namespace, paths: Sequence[Path], output: Path
) -> describe.Described:
    resize = _resize(options)
    with progress.shown(output.stem, quiet=options.json) as shown:
        return cluster.describe(
            cluster.Settings(options.model, resize, options.dim, options.batch, options.jobs),
            cluster.Cluster(options.address, options.workers),
            paths,
            output,
            shown,
            shard=options.shard,
            restart=options.restart,
        )


def described(
    options: argparse.Namespace, opened: describer.Model, paths: Sequence[Path], output: Path
) -> describe.Described:
    """Describe images into a file, and show how far it is."""
    with progress.shown(output.stem, quiet=options.json) as shown:
        return describe.describe(
            opened,
            paths,
            output,
            shown,
            shard=options.shard,
            restart=options.restart,
        )


def model(options: argparse.Namespace) -> describer.Model:
    """The model that is asked for, opened."""
    return describer.opened(
        options.model,
        resize=_resize(options),
        dimension=options.dim,
        batch=options.batch,
        jobs=options.jobs,
    )


def _resize(options: argparse.Namespace) -> Resize:
    return Resize(options.size, options.shorter_side, options.longer_side)


def left_out(faults: Mapping[str, str]) -> str:
    """How a line goes on that says how many images there were."""
    if not faults:
        return ""
    names = ", ".join(list(faults)[:5]) + (", …" if len(faults) > 5 else "")
    return f", {len(faults)} LEFT OUT ({names})"
