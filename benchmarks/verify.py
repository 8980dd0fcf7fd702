"""A verification at full size and 480×640: wall time and peak memory for each artifact.

Converts the seeded net of `benchmarks/convert.py` (149 million parameters) once
into the work folder, then verifies it with `netvlad-verify check --stream`, all
artifacts in one command and each alone. Linux only.

    python benchmarks/verify.py [--work DIR] [--size 480x640]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.memory import sampled
from converters import mini
from converters.writers.sources import matconvnet
from netvlad_keras.spec import NetVLADSpec

ROOT = Path(__file__).resolve().parents[1]
FILES = ("model.onnx", "saved_model", "model.h5", "model.keras")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "verify-bench")
    parser.add_argument("--size", default="480x640", metavar="HxW")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    height, width = (int(part) for part in options.size.split("x"))
    source, folder = _made(options.work)
    image = options.work / f"image_{options.size}.npy"
    np.save(image, np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
    table = Table("artifact", "wall s", "own MB", "with files", title=f"full net, {options.size}")
    runs = {name: [name] for name in FILES} | {"all, --stream": list(FILES)}
    for name, files in runs.items():
        words = ["check", "--stream", "--reference", str(source), *(str(folder / f) for f in files)]
        words += ["--image", str(image), "--inputs", "smallest"]
        seconds, own, with_files = _measured(words)
        table.add_row(name, f"{seconds:.1f}", f"{own / 1e6:,.1f}", f"{with_files / 1e6:,.1f}")
    Console(width=100).print(table)


def _made(work: Path) -> tuple[Path, Path]:
    """The net's file, and the folder of its artifacts; made where they are not there."""
    source = work / "full.mat"
    if not source.is_file():
        matconvnet.write(mini.seeded(NetVLADSpec(), 1), source)
    folder = work / "artifacts" / "full"
    if not folder.is_dir():
        words = ["convert", "--source", str(source), "--output", str(folder.parent)]
        subprocess.run([sys.executable, "-m", "converters", *words], cwd=ROOT, check=True)
    return source, folder


def _measured(words: list[str]) -> tuple[float, float, float]:
    """Seconds, and the largest proportional set size of the process tree, in bytes."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "verify", *words]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process,
        sampled(process.pid) as memory,
    ):
        code = process.wait()
    if code:
        raise SystemExit(f"netvlad-verify ended with {code}")
    seconds = time.perf_counter() - start
    return seconds, *memory.peak()


if __name__ == "__main__":
    main()
