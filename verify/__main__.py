"""The command line: `netvlad-verify`, or `python -m verify`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from converters import trust

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
    except Exception:  # Python's own exit code for it is 1, which says: a difference
        traceback.print_exc()
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
    _manifest_parser(commands)
    _reference_parser(commands)
    _explain_parser(commands)
    return parser


def _check_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check", help="artifacts against their source, layer by layer, bit for bit"
    )
    add = parser.add_argument
    add("paths", nargs="*", type=Path, metavar="DIR|ARTIFACT", help="folders that convert made, "
        "or a folder of those; a file with a reference.npz beside it; with --reference or --against"
        ", artifacts of any origin")  # fmt: skip
    add("--against", type=Path, metavar="FILE", help="in place of the source, a reference.npz")
    add("--reference", type=Path, metavar="SOURCE", help=".mat, TF checkpoint or Keras weights")
    add("--dim", type=int, metavar="D", help="with --reference: the whitening was cut to D outputs")
    add("--names", type=Path, metavar="FILE", help="JSON: canonical layer -> name in the artifact")
    add("--capture", action="append", type=Path, metavar="FILE", help="with --reference and "
        "--image: what any program made of that picture (.npy, .npz, .mat, .pb)")  # fmt: skip
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--inputs", metavar="A,B|FILE", help="which of the inputs that are "
        "made; default: photograph,black,odd; or an earlier report's inputs.npz")  # fmt: skip
    which.add_argument("--all-inputs", action="store_true", help="all that are made: 1/f noise, "
        "white, constant, a batch of 3, the smallest size, ...")  # fmt: skip
    add("--image", type=Path, metavar="FILE", help="a picture or .npy to compare on as well")
    add("--images", type=Path, metavar="DIR", help="every picture in a folder as well")
    add("--database", type=Path, metavar="DIR", help="with --queries: do the artifacts rank these "
        "images alike?")  # fmt: skip
    add("--queries", type=Path, metavar="DIR", help="images to find them by; the same folder: each "
        "among the others")  # fmt: skip
    add("--input-range", metavar="A,B", help="of an input's values, such as 0,1 (a negative one: "
        "--input-range=-1,1); default: the manifest's, else 0,255")  # fmt: skip
    add("--atol", type=float, metavar="X", help="allow |d| up to X in every layer")
    add("--rtol", type=float, metavar="X", help="allow |d| up to X times the layer's largest value")
    add("--tolerance", action="append", default=[], metavar="NAME:VALUE", help="for one layer, in "
        "units of its float32 rounding")  # fmt: skip
    add("--loose", type=float, metavar="X", help="L2 of a captured descriptor that MatConvNet's "
        "stock CPU build explains; default: 0.005, never: 0")  # fmt: skip
    add("--plugin", type=Path, action="append", default=[], metavar="FILE", help="custom layers "
        "of your own, see docs/plugins.md; the file is run")  # fmt: skip
    add("--stream", action="store_true", help="less memory: each artifact in a process of its own")
    add("--report", type=Path, metavar="DIR", help="where report/ goes; default: beside the "
        "artifacts, none with --reference")  # fmt: skip
    trust.add(parser)
    parser.set_defaults(run=_check)


def _diff_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("diff", help="two artifacts against each other, without a source")
    add = parser.add_argument
    add("first", type=Path)
    add("second", type=Path)
    add("--image", type=Path, metavar="FILE", help="a picture or .npy; default: some are made")
    add("--rtol", type=float, default=1e-4, metavar="X", help="of the layer's largest value; "
        "default: 1e-4, four times what float32 costs behind a sharp softmax")  # fmt: skip
    trust.add(parser)
    parser.set_defaults(run=_diff)


def _images_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("images", help="do artifacts rank a set of images alike?")
    add = parser.add_argument
    add("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help="two at least; the first is "
        "the measure")  # fmt: skip
    add("--database", type=Path, required=True, metavar="DIR", help="images to be found")
    add("--queries", type=Path, required=True, metavar="DIR", help="images to find them by; with "
        "names like @UTM_east@UTM_north@.jpg on both sides recall is reported")  # fmt: skip
    add("--size", type=_size, metavar="HxW", help="resize every image")
    add("--limit", type=float, default=1e-4, metavar="X", help="of a descriptor's L2; "
        "default: 1e-4")  # fmt: skip
    add("--top", type=_count, default=10, metavar="K", help="compare the first K matches; "
        "default: 10")  # fmt: skip
    add("--csv", type=Path, metavar="FILE", help="where every image's L2 and cosine go")
    parser.set_defaults(run=_images)


def _manifest_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "manifest", help="is a folder that convert made whole, and as its manifest says?"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="one that holds a manifest.json")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_manifest)


def _reference_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "reference", help="keep what a source computes, to verify artifacts where it is not"
    )
    add = parser.add_argument
    add("folder", nargs="?", type=Path, metavar="DIR", help="one that convert made")
    add("--source", type=Path, metavar="FILE", help=".mat, TF checkpoint or Keras weights")
    add("--dim", type=int, metavar="D", help="with --source: the whitening was cut to D outputs")
    add("--plugin", type=Path, action="append", default=[], metavar="FILE", help="custom layers "
        "of your own, see docs/plugins.md; the file is run")  # fmt: skip
    add("--output", type=Path, metavar="FILE", help="default: reference.npz, in DIR or here")
    trust.add(parser)
    parser.set_defaults(run=_reference)


def _explain_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain",
        help="why is a descriptor not this artifact's? what people get wrong, tried",
        epilog="Exit codes: 0 explained, or the same; 1 nothing that was tried explains it; "
        "2 it could not be tried.",
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="an artifact of any format")
    add("--image", type=Path, required=True, metavar="FILE", help="the picture, or a uint8 .npy")
    add("--descriptor", type=Path, required=True, metavar="FILE", help="what another program made "
        "of it: .npy, .npz, .txt, .csv, .mat")  # fmt: skip
    add("--size", type=_size, metavar="HxW", help="what the picture is meant to be resized to")
    add("--budget", type=_seconds, default=600.0, metavar="SECONDS", help="no pair is begun "
        "after that; default: 600")  # fmt: skip
    add("--json", action="store_true", help="print the result as JSON")
    trust.add(parser)
    parser.set_defaults(run=_explain)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


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


def _check(options: argparse.Namespace) -> bool:
    from verify import check, proof

    with trust.believed(options, "netvlad-verify"):
        return proof.run(options) if proof.asked(options) else check.run(options)


def _reference(options: argparse.Namespace) -> bool:
    from verify import proof_make

    with trust.believed(options, "netvlad-verify"):
        return proof_make.run(options)


def _explain(options: argparse.Namespace) -> bool:
    from verify import explain

    with trust.believed(options, "netvlad-verify"):
        return explain.run(options)


def _diff(options: argparse.Namespace) -> bool:
    from converters.errors import ConversionError
    from verify import diff, listing, unnamed

    with trust.believed(options, "netvlad-verify"):
        runners, named = diff.opened(options.first, options.second)
    images = diff.inputs(*runners, options.image)
    if named:
        first = next(iter(images.values()))
        return listing.differences(list(diff.diff(*runners, first)), options.rtol)
    found = unnamed.aligned(*runners, images, options.rtol)
    listing.alignment(found, list(images))
    if found.outcome is unnamed.Outcome.UNKNOWN:
        raise ConversionError(f"{options.first} and {options.second}: {found.sentence}")
    return found.outcome is unnamed.Outcome.SAME


def _images(options: argparse.Namespace) -> bool:
    from verify import images, listing

    gate = images.run(options)
    listing.gate(gate)
    return gate.passed


def _manifest(options: argparse.Namespace) -> bool:
    from verify import manifest

    return manifest.run(options)


_COMMANDS = ("check", "diff", "images", "manifest", "reference", "explain")


if __name__ == "__main__":
    sys.exit(main())
