"""Images per second and peak memory of `netvlad-describe`, beside others; and how it grows.

All describe the same pictures with the same weights, each in a process of its own, one after
the other: `netvlad-describe` with the ONNX file, PyTorch in the manner of hloc, the SavedModel
in TensorFlow, the ONNX file in OpenVINO at float32. A peer that is not installed is skipped,
and said to be; `--python pytorch=PATH` names another interpreter that has it. Then
`netvlad-describe` alone, with ever more pictures. Linux only.

    python benchmarks/describe.py ARTIFACTS [--images 40] [--size 480x640] [--growth 100,300,1000]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.floors import machine, measured
from benchmarks.memory import sampled
from benchmarks.peers.loop import ABSENT

ROOT = Path(__file__).resolve().parents[1]
PEERS = {
    "pytorch": "PyTorch, as hloc writes it",
    "savedmodel": "SavedModel in TensorFlow",
    "openvino": "OpenVINO, float32",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One process that described all pictures.

    seconds  of describing, from the first image's reading to the last descriptor.
    wall     of the whole process, in seconds.
    own, total  peak memory in bytes, without and with the pages of mapped files.
    """

    images: int
    seconds: float
    wall: float
    own: int
    total: int
    vectors: Path

    @property
    def speed(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        console.print(machine(measured(work, 1 << 26)), highlight=False, soft_wrap=True)
        pictures = _pictures(work / "pictures", options.images, options.size)
        ours = _described(options.artifacts, pictures, work / "ours.npz", options.batch)
        rows: dict[str, Run | str] = {"netvlad-describe": ours}
        for name, title in PEERS.items():
            python = options.python.get(name, sys.executable)
            rows[title] = _peer(name, python, options.artifacts, pictures, work)
        console.print(_compared(rows, ours, options))
        grown = []
        for count in options.growth:
            pictures = _pictures(work / f"grown{count}", count, options.growth_size)
            grown.append(_described(options.artifacts, pictures, work / "g.npz", options.batch))
        if grown:
            console.print(_growth(grown, options.growth_size))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What describing costs, beside others.")
    add = parser.add_argument
    add("artifacts", type=Path, metavar="ARTIFACTS", help="a folder that convert made")
    add("--images", type=int, default=40, metavar="N", help="default: 40")
    add("--size", type=_size, default=(480, 640), metavar="HxW", help="default: 480x640")
    add("--batch", type=int, metavar="N", help="of netvlad-describe; default: its own")
    add("--growth", type=_counts, default=(100, 300, 1000), metavar="A,B", help="how many pictures "
        "netvlad-describe gets; default: 100,300,1000; 0: leave this out")  # fmt: skip
    add("--growth-size", type=_size, default=(240, 320), metavar="HxW", help="default: 240x320")
    add("--python", type=lambda text: tuple(text.split("=", 1)), action="append", default=[],
        metavar="PEER=PATH", help=f"an interpreter that has it, of {', '.join(PEERS)}")  # fmt: skip
    options = parser.parse_args()
    options.python = dict(options.python)
    return options


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(count) for count in text.split(",") if int(count))


def _pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Seeded JPEG files: coarse colours with grain, so that decoding costs what it costs."""
    folder.mkdir()
    for number in range(count):
        pixels = picture(number, *size)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=90)
    return folder


def picture(seed: int, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8 height×width×3."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.integers(-12, 13, (height, width, 1))
    pixels = np.clip(np.asarray(smooth, np.int16) + grain, 0, 255)
    return np.asarray(pixels, np.uint8)


def _described(artifacts: Path, pictures: Path, output: Path, batch: int | None) -> Run:
    """The command, whose last line of progress says how fast it was."""
    command = [sys.executable, "-m", "netvlad_keras", "describe", str(pictures)]
    command += ["--model", str(artifacts / "model.onnx"), "--output", str(output)]
    command += ["--batch", str(batch)] if batch else []
    done, wall, own, total = _watched(command)
    if done.returncode:
        raise SystemExit(done.stderr)
    count, speed = re.findall(r"of (\d+), ([\d.]+) images/s", done.stderr)[-1]
    return Run(int(count), int(count) / float(speed), wall, own, total, output)


def _peer(name: str, python: str, artifacts: Path, pictures: Path, work: Path) -> Run | str:
    vectors = work / f"{name}.npy"
    command = [python, "-m", "benchmarks.peers.loop", name]
    command += [str(artifacts.resolve()), str(pictures), str(vectors)]
    done, wall, own, total = _watched(command)
    if done.returncode == ABSENT:
        return f"skipped: {json.loads(done.stdout)['absent']} is not installed"
    if done.returncode:
        return f"failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}"
    said = json.loads(done.stdout.splitlines()[-1])
    return Run(said["images"], said["describe"], wall, own, total, vectors)


def _watched(command: list[str]) -> tuple[subprocess.CompletedProcess[str], float, int, int]:
    """Run a command; its seconds and its peak memory."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.monotonic()
    with (
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        sampled(process.pid) as memory,
    ):
        out, err = process.communicate()
    wall = time.monotonic() - started
    return subprocess.CompletedProcess(command, process.returncode, out, err), wall, *memory.peak()


def _compared(rows: dict[str, Run | str], ours: Run, options: argparse.Namespace) -> Table:
    title = (
        f"{ours.images} pictures of {'×'.join(map(str, options.size))}, {options.artifacts.name}"
    )
    table = _table(title, "images/s", "of ours", "wall s", "own MB", "with files", "largest L2")
    expected = _vectors(ours.vectors)
    for name, run in rows.items():
        if isinstance(run, str):
            table.add_row(name, run)
            continue
        distance = np.linalg.norm(_vectors(run.vectors) - expected, axis=1).max()
        table.add_row(
            name,
            f"{run.speed:.2f}",
            f"{run.speed / ours.speed:.2f}",
            *_costs(run),
            f"{distance:.1e}",
        )
    return table


def _growth(runs: list[Run], size: tuple[int, int]) -> Table:
    title = f"netvlad-describe with more pictures, {'×'.join(map(str, size))}"
    table = _table(title, "ms an image", "of the first", "wall s", "own MB", "with files")
    for run in runs:
        table.add_row(
            f"{run.images} pictures",
            f"{1000 / run.speed:.1f}",
            f"{runs[0].speed / run.speed:.2f}",
            *_costs(run),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _costs(run: Run) -> tuple[str, str, str]:
    return f"{run.wall:.1f}", f"{run.own / 1e6:,.0f}", f"{run.total / 1e6:,.0f}"


def _vectors(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    loaded = np.load(path, allow_pickle=False)
    return np.asarray(loaded if path.suffix == ".npy" else loaded["descriptors"], np.float32)


if __name__ == "__main__":
    main()
