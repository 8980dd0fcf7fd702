"""Workers on a Ray cluster: every one holds the model, and writes its own shards.

Descriptors do not travel: a worker writes a `.parquet` shard into the result's folder, whole or
not at all, and gives back its name. Ray gives what a lost worker was at to another one; a shard's
name says what is in it, so that the same file is written again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_keras import describer, results
from netvlad_keras.decoding import Resize
from netvlad_keras.errors import EnvironmentFailure, NetVLADError

__all__ = ["SHARD", "Cluster", "Settings", "divided", "written"]

#: Names of shards, and of drafts that a kill left.
SHARD = re.compile(r"[0-9a-f]{16}\.parquet|\.[0-9a-f]{16}\.parquet(\.[0-9a-f]{8})?\.part")

#: Shards that a worker makes at least, so that none waits long for the last one.
_TURNS = 4
#: What Ray says and sends of its own accord.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
#: Seconds that a cluster's machine may take to answer.
_ANSWER = 10.0


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

    address  of a running cluster, as Ray takes it; None: that in `RAY_ADDRESS`, else one that is
             started on this machine and ends with the run.
    workers  that hold the model each; None: one for every four processors of a machine, and one
             at least.
    """

    address: str | None = None
    workers: int | None = None


class _Describer:
    """A worker: opens the model once, and is given the images of one shard after another.

    What goes to it and comes from it is JSON, which has one form for lists of any length.
    """

    def __init__(self, settings: Settings, start: Path, output: Path) -> None:
        self._settings, self._start, self._output = settings, start, output

    def __call__(self, row: Mapping[str, str]) -> dict[str, str]:
        """Write the shard of these images and say what is in it, or why that cannot be."""
        try:
            told = self._described(json.loads(row["images"]))
        except NetVLADError as error:
            told = {"refused": str(error)}
        except Exception as error:  # it would travel as Ray's, in which the reason is hard to find
            told = {"refused": f"a worker failed: {type(error).__name__}: {error}"}
        return {"told": json.dumps(told)}

    @cached_property
    def _model(self) -> describer.Model:
        return self._settings.opened()

    def _described(self, names: Sequence[str]) -> dict[str, Any]:
        given = {self._start / name: name for name in names}
        vectors: dict[str, Any] = {}
        faults: dict[str, str] = {}
        for path, vector in describer.described(self._model, list(given)):
            if isinstance(vector, np.ndarray):
                vectors[given[path]] = vector
            else:
                faults[given[path]] = vector
        shard = _shard_name(names, self._model.about) if vectors else ""
        if vectors:
            rows = results.Few(tuple(vectors), list(vectors.values()))
            results.write(self._output / shard, rows, {}, shared=True)
        return {"shard": shard, "images": list(vectors), "faults": faults}


def written(
    settings: Settings, cluster: Cluster, left: Sequence[str], output: Path, shard: int
) -> Generator[Mapping[str, Any], None, None]:
    """Have the images `left` described, at most `shard` in a file, and say what came of them.

    Of each file, as they come: `shard` is its name in `output`, `images` what it holds, `faults`
    path -> why this image is not in it. Raises `EnvironmentFailure`.
    """
    if not left:
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise EnvironmentFailure(
            "the engine ray needs ray, which is not installed",
            advice="pip install 'netvlad-keras[ray]', or leave --engine ray out.",
        ) from error
    with _joined(cluster.address):
        try:
            yield from _streamed(settings, cluster, left, output, shard)
        except ray.exceptions.RayError as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EnvironmentFailure(f"the cluster could not do it: {said}") from error


@contextmanager
def _joined(address: str | None) -> Iterator[None]:
    """Be part of a cluster, the one that this process is part of already if it is."""
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address != "local":  # attempts to find it; Ray would try for minutes where none is left
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        _check_answers(address)
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise EnvironmentFailure(
            f"no cluster at {address}: {error}",
            advice="--address is auto or HOST:PORT of a cluster that runs (ray start --head).",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise `OSError` soon where nobody listens: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()


def _streamed(
    settings: Settings, cluster: Cluster, left: Sequence[str], output: Path, shard: int
) -> Iterator[Mapping[str, Any]]:
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    workers, threads = divided([count for count in machines if count], cluster.workers)
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
        if "refused" in facts:
            raise EnvironmentFailure(facts["refused"])
        yield facts


def divided(machines: Sequence[int], workers: int | None) -> tuple[int, int]:
    """How many workers, and processors of each, so that all find room at the same time.

    `machines` are the processors of each. No worker is given more than a machine has, and no more
    workers than processors are started.
    """
    if not machines:
        raise EnvironmentFailure("the cluster has no processors")
    wanted = min(workers or sum(max(1, count // 4) for count in machines), sum(machines))
    threads = max(
        each
        for each in range(1, max(machines) + 1)
        if sum(count // each for count in machines) >= wanted
    )
    return (wanted if workers else sum(count // threads for count in machines)), threads


def _shard_name(paths: Sequence[str], about: Mapping[str, Any]) -> str:
    """By what is in it: a shard of another making has another name."""
    content = json.dumps([list(paths), dict(about)], sort_keys=True)
    return f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.parquet"
