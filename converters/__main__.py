"""The command line: `netvlad-convert`, or `python -m converters`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from converters import trust

__all__ = ["main"]

#: Exit codes.
DONE, REFUSED, COULD_NOT = 0, 1, 2

_FORMATS = ("h5", "keras", "savedmodel", "onnx")
_BACK = ("mat", "tf", "hloc", "pytorch-netvlad")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 1 refused (bad input), 2 could not run."""
    options = _parser().parse_args(arguments)
    from converters.errors import ConversionError, EnvironmentFailure

    try:
        run: Callable[[argparse.Namespace], Any] = options.run
        result = run(options)
    except ConversionError as error:
        code = COULD_NOT if isinstance(error, EnvironmentFailure) else REFUSED
        if options.json:
            print(json.dumps({"error": type(error).__name__, "message": str(error), "exit": code}))
        else:
            print(f"netvlad-convert: {error}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print("netvlad-convert: interrupted; nothing was changed", file=sys.stderr)
        return COULD_NOT
    if options.json:
        print(json.dumps(result, indent=2))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netvlad-convert", description="NetVLAD's original weights in; Keras and ONNX out."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _convert_parser(commands)
    _back_parser(commands)
    inspect = _command(commands, "inspect", _inspect, "what is in a weights file")
    inspect.add_argument("file", type=Path, metavar="FILE")
    trust.add(inspect)
    _command(commands, "sources", _sources, "the weights that can be had by name")
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], Any], summary: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)
    return parser


def _convert_parser(commands: Any) -> None:
    parser = _command(commands, "convert", _convert, "write the artifacts of a net")
    add = parser.add_argument
    add("--source", default="offtheshelf", metavar="NAME|PATH", help="default: offtheshelf")
    add(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="a second file of the same net; its tensors must be the same, bit for bit",
    )
    add("--output", type=Path, default=Path("artifacts"), metavar="DIR", help="default: artifacts")
    add("--name", help="of the folder in DIR; default: the source's")
    add(
        "--formats",
        default=",".join(_FORMATS),
        metavar="A,B",
        help=f"of {', '.join(_FORMATS)}, weights",
    )
    add("--until", metavar="LAYER", help="cut the net behind a layer")
    add("--outputs", metavar="A,B", help="cut the net: these layers are its outputs")
    add("--merge-batchnorm", action="store_true", help="into the convolutions before them")
    add("--with-preprocessing", action="store_true", help="put the net's averageImage into it")
    add("--plugin", type=Path, action="append", default=[], metavar="FILE", help="custom layers "
        "of your own, see docs/plugins.md; the file is run")  # fmt: skip
    add("--dim", type=int, metavar="D", help="keep the first D dimensions (white nets)")
    add("--opset", type=int, default=18, choices=(13, 15, 17, 18), help="of the ONNX file")
    add("--layout", default="nhwc", choices=("nhwc", "nchw"), help="of the ONNX file's input")
    add("--input-dtype", default="float32", choices=("float32", "uint8"), help="of the ONNX file")
    add("--fix-size", type=_size, metavar="HxW[xN]", help="a fixed size for the ONNX file")
    _add_derived(parser)
    trust.add(parser)


def _add_derived(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--simplify", action="store_true", help="fold the ONNX file's constants (onnxslim)")
    add("--half", action="store_true", help="model_fp16.onnx too: float16 but for the norms")
    add("--int8", nargs="?", const="", metavar="IMAGES", help="model_int8.onnx too, calibrated on "
        "a folder of images (made ones without), if it ranks as float32 does")  # fmt: skip


def _back_parser(commands: Any) -> None:
    parser = _command(commands, "back", _back, "a net in the format of an older program")
    add = parser.add_argument
    add("--source", required=True, metavar="NAME|PATH", help="trained .keras or .h5, .mat, "
        "TensorFlow checkpoint, .safetensors")  # fmt: skip
    add("--to", required=True, choices=_BACK, help="MatConvNet, netvlad_tf_open, hloc, or "
        "pytorch-NetVlad; see docs/formats.md")  # fmt: skip
    add("--output", type=Path, required=True, metavar="PATH", help="a file; for tf a prefix")
    add("--any-size", action="store_true", help="even if the program's own code builds other "
        "numbers of channels, clusters or outputs")  # fmt: skip
    trust.add(parser)


def _size(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        numbers = ()
    if len(numbers) not in (2, 3) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW or HxWxN, such as 480x640")
    return numbers


def _convert(options: argparse.Namespace) -> dict[str, Any]:
    from converters import plugins, report, transform
    from converters.convert import Request, convert
    from converters.derive import Derived
    from converters.sources import locate
    from converters.writers.options import WriteOptions

    size = options.fix_size
    changes = []
    if options.merge_batchnorm:
        changes.append(transform.merge_batchnorm())
    if options.until:
        changes.append(transform.until(options.until))
    if options.outputs:
        changes.append(transform.keep_outputs(options.outputs.split(",")))
    with (
        trust.believed(options, "netvlad-convert"),
        report.progress(quiet=options.json) as progress,
    ):
        source = locate(options.source, options.checkpoint, options.name, progress.transfer)
        request = Request(
            source=source,
            output=options.output,
            formats=tuple(filter(None, options.formats.split(","))),
            dimension=options.dim,
            options=WriteOptions(
                opset=options.opset,
                layout=options.layout,
                input_dtype=options.input_dtype,
                size=(size[0], size[1]) if size else None,
                batch=size[2] if size and len(size) == 3 else None,
            ),
            changes=changes,
            plugins=[plugins.load(path) for path in options.plugin],
            preprocess=options.with_preprocessing,
            derived=Derived(
                half=options.half,
                int8=options.int8 is not None,
                simplify=options.simplify,
                calibration=Path(options.int8) if options.int8 else None,
            ),
            command=" ".join(["netvlad-convert", *sys.argv[1:]]),
        )
        folder = convert(request, progress.step)
    for remark in source.remarks if not options.json else ():
        print(remark, file=sys.stderr)
    if not options.json:
        report.artifacts(folder, source.notice)
    return {"folder": str(folder), "notice": source.notice, **report.manifest(folder)}


def _back(options: argparse.Namespace) -> dict[str, Any]:
    from converters import report
    from converters.back import back
    from converters.sources import locate

    with (
        trust.believed(options, "netvlad-convert"),
        report.progress(quiet=options.json) as progress,
    ):
        source = locate(options.source, progress=progress.transfer)
        written = back(source.paths[0], options.to, options.output,
                       any_size=options.any_size, progress=progress.step)  # fmt: skip
    files = [str(file) for file in written.files]
    if not options.json:
        lines = [*files, *written.remarks, source.notice]
        print("\n".join(filter(None, lines)))
        print(f"read back: {written.tensors} tensors, the same bit for bit")
    return {
        "files": files,
        "read_back": written.tensors,
        "remarks": list(written.remarks),
        "notice": source.notice,
    }


def _inspect(options: argparse.Namespace) -> dict[str, Any]:
    from converters import report
    from converters.inspect import describe

    with trust.believed(options, "netvlad-convert"):
        found = describe(options.file)
    if not options.json:
        report.inspection(found)
    return found


def _sources(options: argparse.Namespace) -> list[dict[str, Any]]:
    from converters import report
    from converters.sources import listing

    found = listing()
    if not options.json:
        report.sources(found)
    return found


if __name__ == "__main__":
    sys.exit(main())
