"""What the command lines share: exit codes, how errors are said, the types of arguments."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["COULD_NOT", "DONE", "REFUSED", "count", "run", "size"]

_GOES_ON = "the same command goes on from here"

#: Exit codes.
DONE, REFUSED, COULD_NOT = 0, 1, 2


def run(
    program: str,
    work: Callable[[], Mapping[str, Any]],
    *,
    as_json: bool,
    strict: bool = False,
    resumes: bool = True,
) -> int:
    """Do the work and say what came of it: 0 done, 1 refused (bad input), 2 it could not run here.

    If `strict`, a result whose `faults` are not empty is refused, too. `resumes`: interrupted, the
    same command goes on.
    """
    from netvlad_keras.errors import EnvironmentFailure, NetVLADError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        result = work()
    except (NetVLADError, OSError, MemoryError) as error:
        refused = isinstance(error, NetVLADError) and not isinstance(error, EnvironmentFailure)
        code, said = (REFUSED if refused else COULD_NOT), str(error) or "not enough memory"
        if as_json:
            print(json.dumps({"error": type(error).__name__, "message": said, "exit": code}))
        else:
            print(f"{program}: {said}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print(f"{program}: interrupted{f'; {_GOES_ON}' if resumes else ''}", file=sys.stderr)
        return COULD_NOT
    if as_json:
        print(json.dumps(result, indent=2))
    return REFUSED if strict and result["faults"] else DONE


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """HxW as (height, width)."""
    try:
        height, width = map(count, text.lower().split("x"))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, such as 480x640") from None
    return height, width
