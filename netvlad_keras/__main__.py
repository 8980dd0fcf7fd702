"""The command line: `netvlad-describe`, or `python -m netvlad_keras`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

#: Exit codes.
DONE, REFUSED, COULD_NOT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 1 refused (bad input), 2 could not run here."""
    options = _parser().parse_args(arguments)
    from netvlad_keras import commands
    from netvlad_keras.errors import EnvironmentFailure, RetrievalError

    try:
        result: dict[str, Any] = getattr(commands, f"run_{options.command}")(options)
    except RetrievalError as error:
        code = COULD_NOT if isinstance(error, EnvironmentFailure) else REFUSED
        if options.json:
            print(json.dumps({"error": type(error).__name__, "message": str(error), "exit": code}))
        else:
            print(f"netvlad-describe: {error}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print("netvlad-describe: interrupted; the same command goes on from here", file=sys.stderr)
        return COULD_NOT
    if options.json:
        print(json.dumps(result, indent=2))
    return REFUSED if options.strict and result["faults"] else DONE


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
    add("images", nargs="+", type=Path, metavar="IMAGES", help="files, or folders of them")
    _model_arguments(parser, required=True)
    add("--output", type=Path, default=Path("descriptors.npz"), metavar="FILE",
        help=".npz or .parquet; default: descriptors.npz")  # fmt: skip


def _search_parser(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--database", type=Path, required=True, metavar="DIR", help="images to be found, or their "
        "descriptors (.npz, .parquet)")  # fmt: skip
    add("--query", type=Path, required=True, nargs="+", metavar="IMAGES", help="images to find "
        "them by, or their descriptors; an image is not found by itself")  # fmt: skip
    _model_arguments(parser, required=False)
    add("--top", type=_count, default=5, metavar="N", help="matches of each; default: 5")
    add("--picture", type=Path, default=Path("matches.png"), metavar="FILE", help="queries and "
        "matches side by side; default: matches.png")  # fmt: skip
    add("--no-picture", dest="picture", action="store_const", const=None)


def _evaluate_parser(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="a folder, a .csv or a dbStruct .mat: see "
        "docs/retrieval.md")  # fmt: skip
    _model_arguments(parser, required=True)
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="where recall.json, "
        "recall.png and the descriptors go; default: evaluation")  # fmt: skip
    add("--split", default="test", help="the folder below images/; default: test")
    add("--images", type=Path, metavar="DIR", help="what the names in a .csv or .mat start from")
    add("--query-images", type=Path, metavar="DIR", help="the same of the queries")
    add("--radius", type=float, metavar="METRES", help="of a place; default: the .mat's, else 25")


def _model_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    add = parser.add_argument
    add("--model", type=Path, required=required, metavar="FILE", help=".onnx, .keras, .h5 or a "
        "SavedModel's folder (which is a program: only one that you trust)")  # fmt: skip
    add("--dim", type=_count, metavar="D", help="keep the first D dimensions (white nets)")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=_size, metavar="HxW", help="resize every image")
    sizes.add_argument("--shorter-side", type=_count, metavar="N", help="resize to this, in pixels")
    sizes.add_argument("--longer-side", type=_count, metavar="N")
    add("--batch", type=_count, default=4, metavar="N", help="images of one size at a time; "
        "default: 4")  # fmt: skip
    add("--jobs", type=_count, metavar="N", help="threads that decode; default: one a processor")
    add("--shard", type=_count, default=256, metavar="N", help="images that a kill can cost, "
        "at most; default: 256")  # fmt: skip
    add("--restart", action="store_true", help="forget what earlier runs left")
    add("--strict", action="store_true", help="exit 1 if an image was left out")
    add("--json", action="store_true", help="print the result as JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = map(_count, text.lower().split("x"))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, such as 480x640") from None
    return height, width


if __name__ == "__main__":
    sys.exit(main())
