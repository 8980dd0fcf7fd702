"""Describing on a Ray cluster: every worker holds the model, and writes its own shards.

The images, the model and the result lie where all machines see them under the same name.
Descriptors do not travel: a worker writes a `.parquet` shard into the result's folder, whole or
not at all, and gives back its name, which the manifest then holds. Ray gives what a lost worker
was at to another one; a shard's name says what is in it, so that the same file is written again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_keras import describer, results, resuming
from netvlad_keras.decoding import Resize
from netvlad_keras.describe import Described, Progress, none_described
from netvlad_keras.errors import DescriptorsError, EnvironmentFailure, RetrievalError

__all__ = ["Cluster", "Settings", "describe"]

#: Shards that a worker makes at least, so that none waits long for the last one.
_TURNS = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """How images are described, as `describer.opened` takes it: plain data for the workers."""

    model: Path
    resize: Resize | None = None
    dimension: int | None = None
    batch: int | None = None
    jobs: int | None = None

    def opened(self) -> describer.Model:
        """The model."""
        return describer.opened(
            self.model,
            resize=self.resize,
            dimension=self.dimension,
            batch=self.batch,
            jobs=self.jobs,
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it runs.

    address  of a running cluster; None: one that is started here and ends with the run.
    workers  that hold the model each; None: one for every four processors of the cluster.
    """

    address: str | None = None
    workers: int | None = None


class _Describer:
    """A worker: opened once, then given the images of one shard after another.

    What goes to it and comes from it is JSON, which has one form for lists of any length.
    """

    def __init__(self, settings: Settings, start: Path, output: Path) -> None:
        self._start = start
        self._output = output
        self._model = settings.opened()

    def __call__(self, row: Mapping[str, str]) -> dict[str, str]:
        """Write the shard of these images and say what is in it."""
        names: list[str] = json.loads(row["images"])
        given = {self._start / name: name for name in names}
        vectors: dict[str, Any] = {}
        faults: dict[str, str] = {}
        for path, vector in describer.described(self._model, list(given)):
            if isinstance(vector, np.ndarray):
                vectors[given[path]] = vector
            else:
                faults[given[path]] = vector
        shard, refused = _shard_name(names) if vectors else "", ""
        if vectors:
            rows = results.Few(tuple(vectors), list(vectors.values()))
            try:
                results.write(self._output / shard, rows, {})
            except EnvironmentFailure as error:
                refused = str(error)
        told = {"shard": shard, "images": list(vectors), "faults": faults, "refused": refused}
        return {"told": json.dumps(told)}


def describe(
    settings: Settings,
    cluster: Cluster,
    paths: Sequence[Path],
    output: Path,
    progress: Progress | None = None,
    *,
    shard: int = 256,
    restart: bool = False,
) -> Described:
    """Describe images into a folder of `.parquet` shards, which `results.read` reads as a file.

    The descriptors are those of `describe.describe`, bit for bit where the engine takes images
    alone (ONNX). A killed run goes on where it was, and an image that could not be read is tried
    again. A file holds `shard` images at most.

    Raises `RetrievalError` where no image could be described, `DescriptorsError` where `output`
    is something else or was made with something else, `EnvironmentFailure` where Ray is missing
    or the cluster cannot do it.
    """
    _check(output)
    from netvlad_keras.results import parquet

    about = settings.opened().about
    names = sorted({path.as_posix() for path in paths})
    with resuming.locked(output, output):
        if restart or not (output / resuming.MANIFEST).exists():
            resuming.record(output, about, [])
        shards = resuming.recorded(output, about)
        done = {path for name in shards for path in parquet.names(output / name)}
        left = [name for name in names if name not in done]
        before = len(names) - len(left)
        if progress:
            progress.start(len(names), before)
        faults, new = dict[str, str](), 0
        for row in _rows(settings, cluster, left, output, shard):
            new += len(row["images"])
            faults |= row["faults"]
            shards += [row["shard"]] if row["shard"] else []
            resuming.record(output, about, shards, faults=faults)
            if progress:
                for name in (*row["images"], *row["faults"]):
                    progress.image(name, faults.get(name, ""))
        _tidy(output, shards)
        if not shards:
            (output / resuming.MANIFEST).unlink()
            raise RetrievalError(none_described(faults))
        resuming.record(output, about, shards, faults=faults)
    return Described(output, new, before, faults)


def _check(output: Path) -> None:
    """Raise `DescriptorsError` unless it is new, or a folder that an earlier run wrote."""
    if output.suffix.lower() != ".parquet":
        raise DescriptorsError(output, "a cluster writes a folder of shards, FOLDER.parquet")
    if output.is_file() or (
        output.is_dir() and any(output.iterdir()) and not (output / resuming.MANIFEST).exists()
    ):
        raise DescriptorsError(output, "is there already, and is no folder of shards")
    results.check_suffix(output)


def _tidy(output: Path, shards: Sequence[str]) -> None:
    """Remove what no manifest names: it was written by a run that was killed, or forgotten."""
    for stray in set(output.glob("*.parquet")) - {output / name for name in shards}:
        stray.unlink()


def _shard_name(paths: Sequence[str]) -> str:
    return f"{hashlib.sha256(chr(0).join(paths).encode()).hexdigest()[:16]}.parquet"


def _rows(
    settings: Settings, cluster: Cluster, left: Sequence[str], output: Path, shard: int
) -> Iterator[Mapping[str, Any]]:
    """What the workers say of each shard, as they come."""
    if not left:
        return
    try:
        import ray
    except ModuleNotFoundError as error:
        raise EnvironmentFailure(
            "the engine ray needs ray, which is not installed",
            advice="pip install 'netvlad-keras[ray]', or leave --engine ray out.",
        ) from error
    started = not ray.is_initialized()
    try:
        if started:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            own = {} if cluster.address else {"include_dashboard": False}
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR", **own)
        yield from _streamed(settings, cluster, left, output, shard)
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise EnvironmentFailure(f"the cluster could not do it: {error}") from error
    finally:
        if started:
            ray.shutdown()


def _streamed(
    settings: Settings, cluster: Cluster, left: Sequence[str], output: Path, shard: int
) -> Iterator[Mapping[str, Any]]:
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    processors = int(ray.cluster_resources().get("CPU", 1))
    workers = min(cluster.workers or max(1, processors // 4), processors)
    threads = max(1, processors // workers)
    size = max(1, min(shard, math.ceil(len(left) / (_TURNS * workers))))
    parts = [left[at : at + size] for at in range(0, len(left), size)]
    rows = [{"images": json.dumps(part)} for part in parts]
    settings = replace(
        settings,
        model=settings.model.absolute(),
        batch=settings.batch or threads,
        jobs=settings.jobs or threads,
    )
    told = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Describer,
        fn_constructor_args=(settings, Path.cwd(), output.absolute()),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
        num_cpus=threads,
    )
    for row in told.iter_rows():
        facts: dict[str, Any] = json.loads(row["told"])
        if facts["refused"]:
            raise EnvironmentFailure(facts["refused"])
        yield facts
