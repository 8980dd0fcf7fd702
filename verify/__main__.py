"""The command line: `netvlad-verify`, or `python -m verify`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["main"]

#: Exit codes.
GOOD, DIFFERENT, COULD_NOT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 all good, 1 a difference, 2 could not compare."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and words[0] not in _COMMANDS:
        words.insert(0, "check")
    options = _parser().parse_args(words)
    from converters.errors import ConversionError

    try:
        run: Callable[[argparse.Namespace], bool] = options.run
        return GOOD if run(options) else DIFFERENT
    except ConversionError as error:
        print(f"netvlad-verify: {error}", file=sys.stderr)
        return COULD_NOT
    except KeyboardInterrupt:
        print("netvlad-verify: interrupted", file=sys.stderr)
        return COULD_NOT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netvlad-verify",
        description="Says, layer by layer, whether an artifact is the original. "
        "`netvlad-verify DIR` is short for `netvlad-verify check DIR`.",
        epilog="Exit codes: 0 all good, 1 a difference, 2 could not compare.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _check_parser(commands)
    _diff_parser(commands)
    _images_parser(commands)
    return parser


def _check_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check", help="artifacts against their source, layer by layer, bit for bit"
    )
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="DIR|ARTIFACT", help="folders that convert made, "
        "or a folder of those; with --reference, artifacts of any origin")  # fmt: skip
    add("--reference", type=Path, metavar="SOURCE", help=".mat, TF checkpoint or Keras weights")
    add("--dim", type=int, metavar="D", help="with --reference: the whitening was cut to D outputs")
    add("--names", type=Path, metavar="FILE", help="JSON: canonical layer -> name in the artifact")
    add("--image", type=Path, metavar="FILE", help="a picture or .npy to compare on as well")
    add("--inputs", metavar="A,B", help="which inputs to compare on; default: all that are made")
    add("--atol", type=float, metavar="X", help="allow |d| up to X in every layer")
    add("--rtol", type=float, metavar="X", help="allow |d| up to X times the layer's largest value")
    add("--tolerance", action="append", default=[], metavar="NAME:VALUE", help="for one layer, in "
        "units of its float32 rounding")  # fmt: skip
    add("--stream", action="store_true", help="less memory: each artifact in a process of its own")
    add("--report", type=Path, metavar="DIR", help="where report/ goes; default: beside the "
        "artifacts, none with --reference")  # fmt: skip
    parser.set_defaults(run=_check)


def _diff_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("diff", help="two artifacts against each other, without a source")
    add = parser.add_argument
    add("first", type=Path)
    add("second", type=Path)
    add("--image", type=Path, metavar="FILE", help="a picture or .npy; default: one is made")
    add("--rtol", type=float, default=1e-5, metavar="X", help="of the layer's largest value; "
        "default: 1e-5")  # fmt: skip
    parser.set_defaults(run=_diff)


def _images_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("images", help="do artifacts rank a set of images alike?")
    add = parser.add_argument
    add("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help="the first is the measure")
    add("--database", type=Path, required=True, metavar="DIR")
    add("--queries", type=Path, required=True, metavar="DIR")
    add("--size", type=_size, metavar="HxW", help="resize every image")
    add("--limit", type=float, default=1e-4, metavar="X", help="of a descriptor's L2; default 1e-4")
    add("--top", type=int, default=10, metavar="K", help="compare the first K matches; default 10")
    parser.set_defaults(run=_images)


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, such as 480x640") from None
    return height, width


def _check(options: argparse.Namespace) -> bool:
    from verify import check

    return check.run(options)


def _diff(options: argparse.Namespace) -> bool:
    from verify import listing, regimes
    from verify.diff import diff
    from verify.formats import open_artifact

    made = {} if options.image else regimes.regimes(None, ["photograph"])
    images = made["photograph"] if made else regimes.given(options.image)
    found = list(diff(open_artifact(options.first), open_artifact(options.second), images))
    return listing.differences(found, options.rtol)


def _images(options: argparse.Namespace) -> bool:
    from verify import images, listing
    from verify.formats import open_artifact

    runners = {str(path): open_artifact(path) for path in options.artifacts}
    described = {
        name: (
            images.describe(runner, images.listed(options.database), options.size),
            images.describe(runner, images.listed(options.queries), options.size),
        )
        for name, runner in runners.items()
    }
    whitened = all("WPCA" in runner.layers for runner in runners.values())
    gate = images.compare(described, limit=options.limit, k=options.top, crop=whitened)
    listing.gate(gate)
    return gate.passed


_COMMANDS = ("check", "diff", "images")


if __name__ == "__main__":
    sys.exit(main())
