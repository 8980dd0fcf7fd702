"""Mutated files through every reader: `nox -s fuzz -- --count 20000`, or `--seconds 600`.

Nothing of it may end this process or the one that reads, raise anything but
our own errors, or give other weights where a checksum guards the changed bytes
(`corpus.py` says where one does). The same seed gives the same inputs. What
goes wrong is kept under `cases/`, and read again by every test run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .corpus import Seed, lay_out, seeds
from .mutations import MENDED, mutate

__all__ = ["Reader", "main"]

CASES = Path(__file__).parent / "cases"
_LIMIT = 150.0  # seconds that one file may take; the sandbox stops it long before
_CRASH = "crash"
_DIED = "its parser died"  # so `converters.sandbox` says of a child that a file has killed


@dataclass
class Reader:
    """The process of `reader.py`, started anew where it died or hung."""

    process: subprocess.Popen[bytes] | None = None

    def look(self, path: Path) -> dict[str, Any]:
        """What `reader.look` says, or outcome `crash` with the signal, or `hang`."""
        if self.process is None:
            command = [sys.executable, "-m", f"{__package__}.reader"]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parents[1],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], _LIMIT)
        line = self.process.stdout.readline() if ready else b""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        outcome = _CRASH if ready else "hang"
        self.close()
        return {"outcome": outcome, "error": outcome, "said": f"exit {self.code}"}

    code: int | None = None

    def close(self) -> None:
        if self.process is not None:
            if self.process.stdin:
                self.process.stdin.close()
            try:
                self.code = self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.code = self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
            self.process = None


@dataclass
class Run:
    """One run's figures."""

    keep: bool
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    guarded: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=dict)

    def count(
        self, seed: Seed, name: str, changed: bytes, found: dict[str, Any], good: str
    ) -> None:
        outcome = found["outcome"]
        if outcome == "read":
            outcome = "the same weights" if found["weights"] == good else "other weights"
        is_guarded = name not in MENDED and _is_guarded(seed, changed)
        if is_guarded:
            self.guarded[outcome] += 1
        self.outcomes.setdefault(seed.kind, Counter())[outcome] += 1
        if outcome == "refused":
            died = ", its parser died" if _DIED in found["said"] else ""
            self.refusals[found["error"] + died] += 1
        elif outcome in (_CRASH, "hang", "raised") or (is_guarded and outcome == "other weights"):
            what = f"{seed.kind}: {found.get('error', 'other weights behind a checksum')}"
            said = f"{name}: {found.get('said', '')}"
            self.findings.setdefault(what, []).append(said)
            if self.keep and len(self.findings[what]) <= 2:
                _keep(seed, changed, f"{what}: {said}", good if is_guarded else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where anything was found."""
    options = _parser().parse_args(arguments)
    with TemporaryDirectory() as scratch:
        corpus = _corpus(options, Path(scratch))
        started = time.monotonic()
        run, number = _run(options, corpus, Path(scratch) / "file")
    seconds = time.monotonic() - started
    print(f"{number} inputs of {len(corpus)} kinds in {seconds:.0f} s, seed {options.seed}")
    for kind, outcomes in sorted(run.outcomes.items()):
        print(f"  {kind:14} {_figures(outcomes)}")
    print(f"  changed where a checksum guards: {_figures(run.guarded)}")
    print(f"  refused with {_figures(run.refusals)}")
    for what, said in run.findings.items():
        print(f"FOUND {len(said)} × {what}; such as {said[0][:200]}")
    print(f"{sum(map(len, run.findings.values()))} findings")
    return 1 if run.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=2000, metavar="N", help="of inputs; default: 2000")
    add("--seconds", type=float, metavar="S", help="stop after this time, whatever the count")
    add("--seed", type=int, default=0)
    add("--kinds", help="of the corpus, with commas; default: all")
    add("--artifacts", type=Path, metavar="DIR", help="what convert made of mini, all formats "
        "and weights; default: it is made")  # fmt: skip
    add("--keep", action="store_true", help="findings become regression cases")
    return parser


def _corpus(options: argparse.Namespace, scratch: Path) -> list[Seed]:
    cache = Path(os.environ.setdefault("NETVLAD_KERAS_CACHE", str(scratch / "cache")))
    artifacts = options.artifacts
    if artifacts is None:
        command = [sys.executable, "-m", "converters", "convert", "--source", "mini"]
        command += ["--formats", "h5,weights,keras,onnx", "--output", str(scratch), "--json"]
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONPATH": path}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        artifacts = scratch / "mini"
    checkpoint = artifacts / "checkpoint" / "mini"
    if not checkpoint.with_name("mini.index").is_file():
        checkpoint = cache / "mini" / "mini"
    found = seeds(artifacts, checkpoint, scratch)
    return [s for s in found if not options.kinds or s.kind in options.kinds.split(",")]


def _run(options: argparse.Namespace, corpus: list[Seed], folder: Path) -> tuple[Run, int]:
    reader, run, number = Reader(), Run(options.keep), 0
    end = time.monotonic() + (options.seconds or float("inf"))
    good: dict[str, str] = {}
    for seed in corpus:
        found = reader.look(lay_out(seed, next(iter(seed.files.values())), folder))
        if found["outcome"] != "read":
            raise SystemExit(f"the good file of {seed.kind} is not read: {found}")
        good[seed.kind] = found["weights"]
    while number < options.count and time.monotonic() < end:
        rng = random.Random(f"{options.seed} {number}")  # an input can be had again alone
        seed = corpus[number % len(corpus)]
        name, changed = mutate(seed, rng)
        run.count(seed, name, changed, reader.look(lay_out(seed, changed, folder)), good[seed.kind])
        number += 1
        if not number % 1000:
            count = sum(map(len, run.findings.values()))
            print(f"{number} inputs, {count} findings", file=sys.stderr, flush=True)
    reader.close()
    return run, number


def _is_guarded(seed: Seed, changed: bytes) -> bool:
    """Whether every changed byte lies where a checksum guards a weight."""
    data = next(iter(seed.files.values()))
    if len(data) != len(changed):
        return False
    places = [n for n, (a, b) in enumerate(zip(data, changed, strict=True)) if a != b]
    return bool(seed.guarded) and all(
        any(start <= place < end for start, end in seed.guarded) for place in places
    )


def _keep(seed: Seed, changed: bytes, finding: str, weights: str) -> None:
    """A folder with the files, and in case.json what was wrong with them."""
    folder = CASES / f"{seed.kind}-{hashlib.sha256(changed).hexdigest()[:8]}"
    lay_out(seed, changed, folder)
    facts = {"opens": seed.opens, "finding": finding, "weights": weights}
    (folder / "case.json").write_text(json.dumps(facts, indent=2) + "\n")


def _figures(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counter.most_common()) or "none"


if __name__ == "__main__":
    sys.exit(main())
