"""A conversion at full size: wall time and peak memory per step, beside what the machine can do.

Writes a seeded net (149 million parameters; nothing was trained) as the files
that people have, converts each in one command, and tells the steps apart by
the command's progress lines. The net's files stay in the work folder for the
next run; what was converted is measured and removed. Of the small net two
artifacts are written at a time, so their steps mingle. Linux only.

    python benchmarks/convert.py [--work DIR] [--spec small] [--sources mat] [--formats onnx]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.floors import Speeds, compress, evict, inflating, machine, measured
from benchmarks.memory import Memory, sampled
from converters import mini
from converters.convert import DEFAULT_FORMATS
from converters.formats import ARTIFACTS
from netvlad_keras.spec import NetVLADSpec

ROOT = Path(__file__).resolve().parents[1]
SPECS = {"full": NetVLADSpec(), "small": NetVLADSpec(clusters=8, whitening=16)}
SOURCES = ("mat", "compressed", "checkpoint")
_WRITERS = {
    "mat": "converters.writers.sources.matconvnet",
    "checkpoint": "converters.writers.sources.netvlad_tf",
}

_MEMORY = """memory: peak proportional set size over the process tree; own is Pss_Anon + Pss_Shmem,
with files adds Pss_File, the page cache of mapped files and libraries"""


@dataclass(frozen=True, slots=True)
class Step:
    """A progress line of the command; its time is that until the next one, in seconds."""

    line: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Run:
    """One command: its steps, its memory, and what it read and wrote, in bytes.

    inflate    seconds that zlib alone needs for the source.
    processor  seconds of processor time, all processes together.
    """

    steps: list[Step]
    memory: Memory
    source: int
    weights: int
    artifacts: dict[str, int]
    inflate: float
    processor: float


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    options.work.mkdir(parents=True, exist_ok=True)
    sources = {kind: _source(kind, options.spec, options.work, console) for kind in options.sources}
    speeds = measured(options.work, 1 << 29)
    console.print(f"{machine(speeds)}\n{_MEMORY}", highlight=False, soft_wrap=True)
    for kind, path in sources.items():
        run = _converted(path, options.work / "artifacts", options.formats)
        console.print(_steps(run, speeds, f"{options.spec} net, {kind}"))
        console.print(_sizes(run))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a conversion costs, step by step.")
    folder = Path(tempfile.gettempdir()) / "netvlad-benchmark"
    add = parser.add_argument
    add("--work", type=Path, default=folder, metavar="DIR", help=f"default: {folder}")
    add("--spec", choices=SPECS, default="full", help="default: full, 149 million parameters")
    add("--sources", type=_names, default=SOURCES, metavar="A,B", help=f"of {', '.join(SOURCES)}")
    add("--formats", default=",".join(DEFAULT_FORMATS), metavar="A,B", help="as of convert")
    options = parser.parse_args()
    if unknown := [kind for kind in options.sources if kind not in SOURCES]:
        parser.error(f"unknown source {', '.join(unknown)}")
    return options


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _source(kind: str, spec: str, work: Path, console: Console) -> Path:
    """What the command is given, written if it is not there."""
    path = work / {"mat": f"{spec}.mat", "compressed": f"{spec}_v7.mat"}.get(kind, spec)
    if not _files(path):
        console.print(f"writing {path}", highlight=False, soft_wrap=True)
        if kind == "compressed":
            compress(_source("mat", spec, work, console), path)
        else:
            os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")
            net = mini.seeded(SPECS[spec], mini.SEED)
            import_module(_WRITERS[kind]).write(net, path)
    return path


def _files(path: Path) -> list[Path]:
    """The file, or those of the TF checkpoint with this prefix."""
    return [path] if path.is_file() else sorted(path.parent.glob(f"{path.name}.*-of-*"))


def _converted(path: Path, output: Path, formats: str) -> Run:
    """Run the command with a source that is on the disk and in no cache."""
    for file in _files(path):
        evict(file)
    name = f"from_{path.name}"
    command = [sys.executable, "-m", "converters", "convert", "--source", str(path)]
    command += ["--output", str(output), "--name", name, "--formats", formats]
    marks = [("start Python", time.monotonic())]
    used = _children_seconds()
    with (
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process,
        sampled(process.pid) as memory,
    ):
        assert process.stderr is not None
        marks += [(line.rstrip(), time.monotonic()) for line in process.stderr]
    if process.returncode:
        raise SystemExit("\n".join(line for line, _ in marks))
    used = _children_seconds() - used
    ends = [*(moment for _, moment in marks[1:]), time.monotonic()]
    made = json.loads((output / name / "manifest.json").read_text("utf-8"))
    artifacts = {
        artifact.filename: sum(
            file["size"]
            for inside, file in made["files"].items()
            if inside.split("/")[0] == artifact.filename
        )
        for artifact in ARTIFACTS.values()
    }
    shutil.rmtree(output / name)
    return Run(
        steps=[Step(line, start, end) for (line, start), end in zip(marks, ends, strict=True)],
        memory=memory,
        source=sum(file.stat().st_size for file in _files(path)),
        weights=4 * made["parameters"],
        artifacts={name: size for name, size in artifacts.items() if size},
        inflate=inflating(path) if path.name.endswith("_v7.mat") else 0.0,
        processor=used,
    )


def _children_seconds() -> float:
    """Processor time of all processes that this one has waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


Floor = tuple[float, str]

#: The first words of a progress line -> the least that the step must take.
_FLOORS: dict[str, Callable[[Run, Speeds, str], Floor]] = {
    "read": lambda run, speeds, _: (
        run.source / speeds.disk_read + run.inflate,
        "disk read" + ", inflate" * bool(run.inflate),
    ),
    "map": lambda run, speeds, _: (run.weights / speeds.cache_write, "file write"),
    "hash": lambda run, speeds, _: (run.source / speeds.sha256, "sha256"),
    "write": lambda run, speeds, name: (run.artifacts[name] / speeds.cache_write, "file write"),
    "check": lambda run, speeds, name: (run.artifacts[name] / speeds.cache_read, "file read"),
    "manifest.json,": lambda run, speeds, _: (_total(run) / speeds.sha256, "sha256"),
}


def _steps(run: Run, speeds: Speeds, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("step", no_wrap=True)
    for column in ("wall s", "floor s", "ratio", "of", "own MB", "with files"):
        table.add_column(column, justify="left" if column == "of" else "right")
    for step in run.steps:
        verb, *_, name = step.line.split()
        floor = _FLOORS[verb](run, speeds, name) if verb in _FLOORS else None
        peak = run.memory.peak(step.start, step.end)
        table.add_row(step.line, *_times(step.seconds, floor), *map(_megabytes, peak))
    table.add_section()
    seconds = run.steps[-1].end - run.steps[0].start
    least = run.source / speeds.disk_read + run.inflate + _total(run) / speeds.disk_write
    total = _times(seconds, (least, "disk read and write" + ", inflate" * bool(run.inflate)))
    table.add_row("one command", *total, *map(_megabytes, run.memory.peak()))
    table.add_row("processor time of all processes", f"{run.processor:.2f}")
    return table


def _times(seconds: float, floor: Floor | None) -> tuple[str, str, str, str]:
    if floor is None:
        return f"{seconds:.2f}", "", "", ""
    least, measure = floor
    return f"{seconds:.2f}", f"{least:.2f}", f"{seconds / least:.1f}", measure


def _sizes(run: Run) -> Table:
    table = Table("artifact", title="sizes", title_justify="left")
    for column in ("MB", "weights MB", "over the weights"):
        table.add_column(column, justify="right")
    for name, size in run.artifacts.items():
        over = f"{100 * (size / run.weights - 1):+.3f} %"
        table.add_row(name, _megabytes(size), _megabytes(run.weights), over)
    return table


def _total(run: Run) -> int:
    return sum(run.artifacts.values())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


if __name__ == "__main__":
    main()
