"""Describing on a cluster into a folder of shards: which are done, and which are left.

The images, the model and the result lie where all machines see them under the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from netvlad_keras import results, resuming, workers
from netvlad_keras.describe import Described, Progress, none_described
from netvlad_keras.errors import DescriptorsError, RetrievalError
from netvlad_keras.workers import Cluster, Settings

__all__ = ["Cluster", "Settings", "describe"]


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
    again. A file holds `shard` images at most; of an earlier run's files, those stay whose images
    are all among `paths` and as they were.

    Raises `RetrievalError` where no image could be described, `DescriptorsError` where `output`
    is something else or was made with something else, `EnvironmentFailure` where Ray is missing
    or the cluster cannot do it.
    """
    _check(output)
    about = settings.opened().about
    names = sorted({path.as_posix() for path in paths})
    with _begun(output, about, restart=restart) as found:
        shards, done = _still_asked_for(output, found, names)
        faults = results.unfit(output, names)
        left = [name for name in names if name not in done.union(faults)]
        new, before = 0, len(done)
        if progress:
            progress.start(len(names), before)
            _tell(progress, [], faults)
        with closing(workers.written(settings, cluster, left, output, shard)) as rows:
            for row in rows:
                new += len(row["images"])
                faults |= row["faults"]
                if row["shard"]:
                    shards.append(row["shard"])
                    resuming.record(output, about, shards, faults=faults)
                if progress:
                    _tell(progress, row["images"], row["faults"])
        if not shards:
            raise RetrievalError(none_described(faults))
        resuming.record(output, about, shards, faults=faults, complete=True)
        _tidy(output, shards)
    return Described(output, new, before, faults)


def _check(output: Path) -> None:
    """Raise `DescriptorsError` unless it is new, or a folder that an earlier run wrote."""
    if output.suffix.lower() != ".parquet":
        raise DescriptorsError(output, "a cluster writes a folder of shards, FOLDER.parquet")
    held = {path.name for path in output.iterdir()} if output.is_dir() else {resuming.LOCK}
    if output.is_file() or not (resuming.MANIFEST in held or held <= {resuming.LOCK}):
        raise DescriptorsError(output, "is there already, and is no folder of shards")
    results.check_suffix(output)


@contextmanager
def _begun(output: Path, about: Mapping[str, Any], *, restart: bool) -> Iterator[list[str]]:
    """The names of the finished shards; a folder that ends without one goes.

    With `restart` there are none, but it is the first new one that replaces the manifest.
    """
    with resuming.locked(output, output):
        if not (output / resuming.MANIFEST).exists():
            resuming.record(output, about, [])
        found = [] if restart else resuming.recorded(output, about)
        try:
            yield found
        finally:
            with suppress(DescriptorsError):  # of another making: it has some
                if not resuming.recorded(output, about):
                    _tidy(output, [])
                    (output / resuming.MANIFEST).unlink()


def _still_asked_for(
    output: Path, shards: Sequence[str], names: Sequence[str]
) -> tuple[list[str], set[str]]:
    """The shards that hold nothing but images of `names` as they are, and what they hold."""
    asked = set(names)
    held = {shard: set(resuming.images(output / shard)) for shard in shards}
    kept = [
        shard
        for shard in shards
        if held[shard] <= asked
        and not any(resuming.changed_since(output / shard, Path(name)) for name in held[shard])
    ]
    return kept, set().union(*(held[shard] for shard in kept))


def _tell(progress: Progress, described: Sequence[str], faults: Mapping[str, str]) -> None:
    for name in (*described, *faults):
        progress.image(name, faults.get(name, ""))


def _tidy(output: Path, shards: Sequence[str]) -> None:
    """Remove what the manifest does not name: left by a run that was killed, or forgotten."""
    kept = {output / name for name in shards}
    for stray in [path for path in output.iterdir() if workers.SHARD.fullmatch(path.name)]:
        if stray in kept:
            continue
        with suppress(OSError):  # it does no harm
            stray.unlink()
