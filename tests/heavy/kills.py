"""`convert --source mini`, killed, on a full disk, and twice at once: the old folder or the new.

    python tests/heavy/kills.py --kills 200 --disks 40 --pairs 5

Prints the figures; the exit code is 1 where anything half-written was found
under a final name, or a later run did not succeed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from converters.errors import ConversionError
from verify.manifest import compare

_TENTH = 10
_MIB = 1 << 20
#: A disk of one's own: `unshare` makes a tmpfs that goes with the process.
_MOUNT = ("unshare", "--map-root-user", "--mount", "sh", "-c")


@dataclass
class Bench:
    """A place to convert in, and what happened there."""

    root: Path
    formats: str
    output: Path
    source: str = "mini"
    figures: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def target(self) -> Path:
        return self.output / "mini"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), *sys.path[1:]]))
        known = {"NETVLAD_KERAS_CACHE": str(self.cache), "PYTHONPATH": path}
        command = [sys.executable, "-m", "converters", "convert", "--source", self.source]
        command += ["--formats", self.formats, "--output", str(self.output)]
        return subprocess.Popen(
            command,
            env={**os.environ, **known},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> str:
        """A run that must succeed and leave nothing of the runs before it; what it says."""
        process = self.start()
        said = process.communicate()[1]
        self.figures["runs to the end"] += 1
        if process.returncode:
            self.faults.append(f"a run failed with {process.returncode}: {said[-500:]}")
        self.look("a run to the end", must_be=True)
        if litter := [p.name for p in self.output.glob(".*") if p.suffix != ".lock"]:
            self.faults.append(f"left behind: {litter}")
        return said

    def look(self, after: str, *, must_be: bool) -> None:
        """What stands under the final name is whole, or is not there and never was."""
        if not self.target.exists():
            self.figures["nothing there"] += 1
            if must_be:
                self.faults.append(f"after {after}: {self.target} is gone")
            return
        try:
            wrong = [f"{e.name} {e.fault}" for e in compare(self.target) if e.fault]
        except ConversionError as error:
            wrong = [str(error)]
        self.figures["half-written" if wrong else "whole"] += 1
        self.faults += [f"after {after}: {line}" for line in wrong]
        if strangers := {p.name for p in self.output.glob("[!.]*")} - {"mini"}:
            self.faults.append(f"after {after}: {strangers} beside it")


def kills(bench: Bench, count: int, rng: random.Random) -> None:
    """`kill -9` at a random time, or within 30 ms of a random step."""
    if bench.source == "mini":
        bench.finish()  # which fills the cache
    started = time.monotonic()
    steps = bench.finish().count("\n")
    length = time.monotonic() - started
    for number in range(1, count + 1):
        if number % 5 == 0:  # what the cache holds is made anew
            (bench.cache / "mini" / "contents.json").unlink(missing_ok=True)
        if number % 7 == 0:  # nothing is there before
            shutil.rmtree(bench.target, ignore_errors=True)
        was = _identity(bench.target)
        after = _kill(bench, rng, length, steps)
        is_now = _identity(bench.target)
        bench.figures["the new one" if is_now not in (None, was) else "as before"] += 1
        bench.look(f"kill {number}, {after}", must_be=was is not None)
        if number % _TENTH == 0:
            bench.finish()
    bench.finish()
    shutil.copytree(bench.output, bench.root / "made")


def _kill(bench: Bench, rng: random.Random, length: float, steps: int) -> str:
    process = bench.start()
    assert process.stderr is not None
    if rng.random() < 0.5:
        moment = f"{(seconds := rng.uniform(0, 1.05 * length)):.3f} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    else:
        step = rng.randint(1, steps)
        for _ in range(step):
            process.stderr.readline()
        time.sleep(rng.uniform(0, 0.03))
        moment = f"step {step}"
    bench.figures["killed" if process.poll() is None else "had finished"] += 1
    process.kill()
    process.communicate()
    return moment


def _identity(folder: Path) -> int | None:
    return folder.stat().st_ino if folder.exists() else None


def disks(bench: Bench, count: int, rng: random.Random) -> None:
    """A disk that is full after so many bytes, from none to more than enough."""
    if subprocess.run([*_MOUNT, "true"], capture_output=True).returncode:
        print("disks: unshare makes none here, so none were tried")
        return
    made = bench.root / "made"
    bench.output.mkdir(exist_ok=True)
    if not made.exists():
        bench.finish()
        shutil.copytree(bench.output, made)
    needed = 3 * sum(p.stat().st_size for p in made.rglob("*"))
    for number in range(count):
        free = needed * (2 * number + 1) // (2 * count) // 4096 * 4096
        inner = f'mount -t tmpfs -o size=64m tmpfs "{bench.output}" && exec "$@"'
        command = [sys.executable, str(Path(__file__).resolve()), "--formats", bench.formats]
        command += ["--source", bench.source]
        command += ["--on-disk", str(bench.root), str(bench.output), str(free)]
        ran = subprocess.run([*_MOUNT, inner, "sh", *command], capture_output=True, text=True)
        try:
            found = json.loads(ran.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            bench.faults.append(f"disk of {free}: {ran.stderr[-500:]}")
            continue
        bench.figures.update(found["figures"])
        bench.faults += found["faults"]


def on_disk(bench: Bench, free: int) -> None:
    """One run on a disk with `free` bytes, where `bench.output` is one of 64 MiB."""
    made = bench.root / "made" / "mini"
    shutil.copytree(made, bench.target)
    room = shutil.disk_usage(bench.output).free - free
    with (bench.output / ".filler").open("wb") as filler:
        while room > 0:
            room -= filler.write(bytes(min(_MIB, room)))
    process = bench.start()
    said = process.communicate()[1]
    bench.figures[{0: "room enough", 2: "disk full, said so"}.get(process.returncode, "?")] += 1
    if process.returncode not in (0, 2) or (process.returncode and "No space left" not in said):
        bench.faults.append(f"disk of {free}: exit {process.returncode}: {said[-500:]}")
    (bench.output / ".filler").unlink()
    bench.look(f"a disk of {free}", must_be=True)
    if litter := [p.name for p in bench.output.glob(".*") if p.suffix != ".lock"]:
        bench.faults.append(f"disk of {free}: left behind: {litter}")


def pairs(bench: Bench, count: int, rng: random.Random) -> None:
    """Two converts of one source into one folder at once, the cache empty every other time."""
    for number in range(count):
        shutil.rmtree(bench.output, ignore_errors=True)
        if number % 2:
            shutil.rmtree(bench.cache, ignore_errors=True)
        both = [bench.start(), bench.start()]
        said = [process.communicate()[1] for process in both]
        bench.figures["two at once"] += 1
        for process, text in zip(both, said, strict=True):
            if process.returncode:
                bench.faults.append(f"of two one failed: {text[-500:]}")
        bench.look(f"pair {number}", must_be=True)
        if bench.source == "mini" and not (bench.cache / "mini" / "contents.json").is_file():
            bench.faults.append(f"pair {number}: the cache has no record")


_SERIES: dict[str, Callable[[Bench, int, random.Random], None]] = {
    "kills": kills,
    "disks": disks,
    "pairs": pairs,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    for name, default in (("kills", 200), ("disks", 40), ("pairs", 5), ("seed", 2016)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    parser.add_argument("--formats", default="h5,keras,savedmodel,onnx")
    parser.add_argument("--source", default="mini", help="or a file whose name is mini")
    parser.add_argument("--on-disk", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.on_disk:
        root, output, free = options.on_disk
        bench = Bench(Path(root), options.formats, Path(output), options.source)
        on_disk(bench, int(free))
        print(json.dumps({"figures": bench.figures, "faults": bench.faults}))
        return 0
    with TemporaryDirectory() as root:
        series = [name for name in _SERIES if getattr(options, name)]
        good = [_run(name, Path(root), options) for name in series]
    return 0 if all(good) else 1


def _run(name: str, root: Path, options: argparse.Namespace) -> bool:
    """One series; prints its figures."""
    bench = Bench(root, options.formats, root / name, options.source)
    started = time.monotonic()
    _SERIES[name](bench, getattr(options, name), random.Random(options.seed))
    seconds = time.monotonic() - started
    figures = ", ".join(f"{value} {key}" for key, value in bench.figures.items())
    faults = f"{len(bench.faults)} faults"
    print(f"{name}: {getattr(options, name)} in {seconds:.0f} s: {figures}; {faults}")
    print(*(f"  {fault}\n" for fault in bench.faults), sep="", end="", flush=True)
    return not bench.faults


class _Raw(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The docstring as it is, and every default."""


if __name__ == "__main__":
    sys.exit(main())
