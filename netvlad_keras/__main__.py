"""The command line: `netvlad-describe`, or `python -m netvlad_keras`."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from netvlad_keras import command_line
from netvlad_keras.command_line import count, size

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 1 refused (bad input), 2 could not run here."""
    options = _parser().parse_args(arguments)
    command = import_module(f"netvlad_keras.{options.command}_command")
    work = functools.partial(command.run, options)
    return command_line.run(
        "netvlad-describe",
        work,
        as_json=options.json,
        strict=options.strict,
        resumes=options.command != "search",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netvlad-describe",
        description="Images to descriptors, and the place that an image shows.",
        epilog="Exit codes: 0 done, 1 refused, 2 it could not run here.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _describe_parser(commands.add_parser("describe", help="images -> a file of descriptors"))
    _search_parser(commands.add_parser("search", help="the nearest images, and a picture of them"))
    _evaluate_parser(commands.add_parser("evaluate", help="recall@N on a dataset"))
    return parser


def _describe_parser(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGES", help="files, folders of them, or a "
        ".parquet whose column `path` names them")  # fmt: skip
    _model_arguments(parser, required=True)
    add("--output", type=Path, default=Path("descriptors.npz"), metavar="FILE",
        help=".npz or .parquet; default: descriptors.npz")  # fmt: skip
    _resuming_arguments(parser)
    add("--engine", choices=("local", "ray"), default="local", help="ray: on a cluster, into a "
        "folder of shards FOLDER.parquet (docs/retrieval.md)")  # fmt: skip
    add("--address", help="of a Ray cluster: auto or HOST:PORT; default: RAY_ADDRESS, "
        "or else one is started here")  # fmt: skip
    add("--workers", type=count, metavar="N", help="of the cluster; default: one for every four "
        "processors of a machine")  # fmt: skip


def _search_parser(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--database", type=Path, required=True, metavar="DIR", help="images to be found, or their "
        "descriptors (.npz, .parquet)")  # fmt: skip
    add("--query", type=Path, required=True, nargs="+", metavar="IMAGES", help="images to find "
        "them by, or their descriptors; an image is not found by itself")  # fmt: skip
    _model_arguments(parser, required=False)
    add("--top", type=count, default=5, metavar="N", help="matches of each; default: 5")
    add("--picture", type=Path, default=Path("matches.png"), metavar="FILE", help="queries and "
        "matches side by side, .png, .jpg or .webp; default: matches.png")  # fmt: skip
    add("--no-picture", dest="picture", action="store_const", const=None)
    parser.set_defaults(shard=256, restart=False)  # nothing of a search is kept


def _evaluate_parser(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="a folder, a .csv or a dbStruct .mat: see "
        "docs/retrieval.md")  # fmt: skip
    _model_arguments(parser, required=True)
    _resuming_arguments(parser)
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="where recall.json, "
        "recall.png and the descriptors go; default: evaluation")  # fmt: skip
    add("--split", default="test", help="the folder below images/; default: test")
    add("--images", type=Path, metavar="DIR", help="what the names in a .csv or .mat start from")
    add("--query-images", type=Path, metavar="DIR", help="the same of the queries")
    add("--radius", type=float, metavar="METRES", help="of a place; default: the .mat's, else 25")


def _resuming_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--shard", type=count, default=256, metavar="N", help="images that a kill can cost, "
        "at most; default: 256")  # fmt: skip
    add("--restart", action="store_true", help="forget what earlier runs left")


def _model_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    add = parser.add_argument
    add("--model", type=Path, required=required, metavar="FILE", help=".onnx, .keras, .h5 or a "
        "SavedModel's folder (which is a program: only one that you trust)")  # fmt: skip
    add("--dim", type=count, metavar="D", help="keep the first D dimensions (white nets)")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=size, metavar="HxW", help="resize every image")
    sizes.add_argument("--shorter-side", type=count, metavar="N", help="resize to this, in pixels")
    sizes.add_argument("--longer-side", type=count, metavar="N")
    add("--batch", type=count, metavar="N", help="images at a time; default: one for each "
        "processor with .onnx, else 4 of one size")  # fmt: skip
    add("--jobs", type=count, metavar="N", help="threads that decode; default: one a processor, "
        "8 at most")  # fmt: skip
    add("--strict", action="store_true", help="exit 1 if an image was left out")
    add("--json", action="store_true", help="print the result as JSON")


if __name__ == "__main__":
    sys.exit(main())
