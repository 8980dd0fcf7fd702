"""`mcn2onnx FILE.mat`: a MatConvNet net as ONNX, for those who look for just that."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from converters import __main__ as command

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """`netvlad-convert convert --source FILE --formats onnx`, with its options and exit codes."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print("usage: mcn2onnx FILE.mat [options of netvlad-convert convert]")
        return command.DONE if words else command.REFUSED
    return command.main(["convert", "--source", words[0], "--formats", "onnx", *words[1:]])


if __name__ == "__main__":
    sys.exit(main())
