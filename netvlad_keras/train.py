"""The command line: `netvlad-train`, or `python -m netvlad_keras.train`."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from netvlad_keras import command_line
from netvlad_keras.command_line import count, size

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a net. Returns 0 done, 1 refused (bad input), 2 could not run here."""
    options = _parser().parse_args(arguments)
    work = functools.partial(_run, options)
    return command_line.run("netvlad-train", work, as_json=options.json)


def _run(options: argparse.Namespace) -> dict[str, object]:
    from netvlad_keras.errors import EnvironmentFailure

    try:
        from netvlad_keras import train_command
    except ModuleNotFoundError as error:
        raise EnvironmentFailure(
            f"training needs {error.name}, which is not installed",
            advice="pip install 'netvlad-keras[train]'",
        ) from error
    return train_command.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netvlad-train",
        description="Train a NetVLAD on places, by the recipe of its paper (docs/training.md).",
        epilog="Killed, the same command goes on from the last epoch. Exit codes: 0 done, "
        "1 refused, 2 it could not run here.",
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="a folder with the splits train and val, or "
        "a .csv or dbStruct .mat of images to train on")  # fmt: skip
    add("--model", type=Path, required=True, metavar="FILE", help=".keras or .h5: the net to "
        "start from")  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR", help="where model.keras, curves.csv and "
        "checkpoint.npz go")  # fmt: skip
    add("--validation", type=Path, metavar="DATASET", help="default: DATASET's split val")
    add("--images", type=Path, metavar="DIR", help="what the names in a .csv or .mat start from")
    add("--query-images", type=Path, metavar="DIR", help="the same of the queries")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=size, metavar="HxW", help="resize every image")
    sizes.add_argument("--shorter-side", type=count, metavar="N", help="resize to this, in pixels")
    add("--clusters", action="store_true", help="first initialise the clusters on DATASET")
    add("--whiten", type=count, metavar="D", help="at the end also write model_white.keras, "
        "with a whitening of D dimensions learnt on DATASET")  # fmt: skip
    _recipe_arguments(parser)
    add("--stop-after", type=count, metavar="EPOCH", help="leave the rest to the next call")
    add("--restart", action="store_true", help="forget what earlier runs left")
    add("--json", action="store_true", help="print the result as JSON")
    return parser


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("recipe").add_argument
    add("--epochs", type=count, default=30, metavar="N", help="default: 30")
    add("--batch", type=count, default=4, metavar="N", help="queries of a step; default: 4")
    add("--learning-rate", type=float, default=1e-3, metavar="X", help="halved at epochs 6, 11, "
        "16, …; default: 0.001")  # fmt: skip
    add("--margin", type=float, default=0.1, metavar="X", help="default: 0.1")
    add("--train-from", default="conv5_1", metavar="LAYER", help="what stands before it is left "
        "alone; all: nothing is; default: conv5_1")  # fmt: skip
    add("--renew-every", type=count, default=1000, metavar="N", help="queries between two "
        "renewals of the cached features; default: 1000")  # fmt: skip
    add("--seed", type=int, default=43, metavar="N", help="default: 43")


if __name__ == "__main__":
    sys.exit(main())
