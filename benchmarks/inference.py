"""One image at a time through every runtime: milliseconds, memory, and how far descriptors are.

Each runtime runs in a process of its own on two threads, one after the other, on the same
pictures. Beside them stands the estimate that nothing on this CPU can beat by much without other
algorithms or numbers: the net's multiplications and additions over what sgemm does in a second
here, on two threads. Runtimes that are not installed are told, and left out. Linux only.

    python benchmarks/inference.py ARTIFACTS [--images 10] [--size 480x640]
        [--python hloc=PATH --python openvino=PATH ...]

ARTIFACTS is a folder that `convert --half --int8` made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.describe import picture
from benchmarks.floors import machine, measured
from benchmarks.memory import sampled
from benchmarks.runtimes import ABSENT, LACKING, RUNTIMES, THREADS
from netvlad_keras.spec import NetVLADSpec

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Run:
    """ms: median and least of an image; own: peak memory in bytes; cosine: least, to ours."""

    median: float
    least: float
    own: int
    descriptors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def main() -> None:
    options = _options()
    height, width = options.size
    console = Console(width=None if sys.stdout.isatty() else 120)
    facts = json.loads((options.artifacts / "manifest.json").read_text("utf-8"))
    operations = _operations(NetVLADSpec.from_dict(facts["spec"]), height, width)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        console.print(machine(measured(work, 1 << 26)), highlight=False, soft_wrap=True)
        images = np.stack([picture(number, height, width) for number in range(options.images)])
        np.save(work / "images.npy", images)
        rate = _sgemm()
        floor = operations / rate
        console.print(
            f"{operations / 1e9:.1f} GFLOP an image, sgemm {rate / 1e9:.1f} GFLOP/s on {THREADS} "
            f"threads: {1000 * floor:.0f} ms",
            highlight=False,
        )
        runs = {name: _run(name, options, work) for name in RUNTIMES}
    console.print(_table(runs, floor, f"{options.artifacts.name}, {height}×{width}"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What an image costs in every runtime.")
    add = parser.add_argument
    add("artifacts", type=Path, metavar="ARTIFACTS", help="a folder that convert made")
    add("--images", type=int, default=10, metavar="N", help="default: 10")
    add("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(480, 640),
        metavar="HxW", help="default: 480x640")  # fmt: skip
    add("--python", type=lambda text: tuple(text.split("=", 1)), action="append", default=[],
        metavar="NAME=PATH", help=f"its interpreter, of {', '.join(RUNTIMES)}")  # fmt: skip
    options = parser.parse_args()
    options.python = dict(options.python)
    return options


def _operations(spec: NetVLADSpec, height: int, width: int) -> float:
    """Multiplications and additions of the convolutions, the assignment, VLAD and the whitening."""
    total, channels = 0.0, 3
    for row in spec.trunk:
        if row.kind in ("conv", "pool"):
            top, bottom, left, right = row.pads
            height = (height + top + bottom - row.kernel[0]) // row.stride[0] + 1
            width = (width + left + right - row.kernel[1]) // row.stride[1] + 1
        if row.kind == "conv":
            taps = row.kernel[0] * row.kernel[1] * channels / row.groups
            total += 2 * height * width * taps * row.width
            channels = row.width
    total += 2 * 2 * height * width * channels * spec.clusters
    return total + 2 * channels * max(spec.clusters, 1) * spec.whitening


def _sgemm() -> float:
    """Multiplications and additions in a second: the best of ten products of 2048×2048."""
    script = (
        "import numpy as np, time\n"
        "a = np.ones((2048, 2048), np.float32); a @ a\n"
        "def once():\n"
        "    t = time.perf_counter(); a @ a; return time.perf_counter() - t\n"
        "print(min(once() for _ in range(10)))"
    )
    threads = {name: str(THREADS) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=True,
    )
    return 2 * 2048.0**3 / float(done.stdout)


def _run(name: str, options: argparse.Namespace, work: Path) -> Run | str:
    out = work / f"{name}.npy"
    command = [options.python.get(name, sys.executable), "-m", "benchmarks.runtimes", name]
    command += [str(options.artifacts.resolve()), str(work / "images.npy"), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    time.sleep(1)  # what the one before leaves behind is not this one's
    with (
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        sampled(process.pid) as memory,
    ):
        said, fault = process.communicate()
    if process.returncode in (ABSENT, LACKING):
        return f"left out: {json.loads(said)['why']}"
    if process.returncode:
        return f"failed: {(fault.strip().splitlines() or ['without a word'])[-1]}"
    times = json.loads(said.splitlines()[-1])["ms"]
    return Run(statistics.median(times), min(times), memory.peak()[0], np.load(out))


def _table(runs: dict[str, Run | str], floor: float, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in ("ms", "least", "of ours", "of sgemm", "own MB", "1 - cosine", "L2"):
        table.add_column(column, justify="right")
    ours = runs["onnx"]
    if isinstance(ours, str):
        raise SystemExit(f"model.onnx: {ours}")
    for name, run in runs.items():
        if isinstance(run, str):
            table.add_row(f"{RUNTIMES[name][0]}: {run}")
            continue
        exact, found = (each.descriptors.astype(np.float64) for each in (ours, run))
        cosine = (exact * found).sum(axis=1) / np.linalg.norm(exact, axis=1)
        cosine /= np.linalg.norm(found, axis=1)
        table.add_row(
            RUNTIMES[name][0],
            f"{run.median:.0f}",
            f"{run.least:.0f}",
            f"{run.median / ours.median:.2f}",
            f"{run.median / 1000 / floor:.2f}",
            f"{run.own / 1e6:,.0f}",
            f"{1 - cosine.min():.1e}",
            f"{np.linalg.norm(exact - found, axis=1).max():.1e}",
        )
    return table


if __name__ == "__main__":
    main()
