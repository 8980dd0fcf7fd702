"""How far files are believed, as the command lines ask for it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["add", "believed"]


def add(parser: argparse.ArgumentParser) -> None:
    """The options `--trusted` and `--max-parameters`."""
    parser.add_argument(
        "--trusted", action="store_true", help="parse files in this process, not in a sandbox"
    )
    parser.add_argument(
        "--max-parameters", type=int, metavar="N", help="refuse a larger net; default: a billion"
    )


@contextmanager
def believed(options: argparse.Namespace, program: str) -> Iterator[None]:
    """Files are believed as far as the options say; what the sandbox lacks here is told."""
    from converters import sandbox

    most = options.max_parameters or sandbox.PARAMETERS
    with sandbox.believing(sandbox.Reading(trusted=options.trusted, parameters=most)):
        yield
    for words in () if options.trusted else sandbox.lacking():
        print(f"{program}: of the sandbox: {words}", file=sys.stderr)
