"""A folder of finished parts that a run goes on from: its lock, and the manifest that names them.

Only what the manifest names counts: after a kill at any moment no image is lost and none is
there twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from netvlad_keras import results
from netvlad_keras.errors import DescriptorsError, EnvironmentFailure

__all__ = ["LOCK", "MANIFEST", "changed_since", "damaged", "images", "locked", "record", "recorded"]

#: Programs that read a folder of `.parquet` files pass over names that begin with `_` or `.`.
MANIFEST = "_manifest.json"
LOCK = ".lock"
_ADVICE = "--restart begins anew; to keep them, write to another file."


@contextmanager
def locked(folder: Path, output: Path) -> Iterator[None]:
    """One run at a time: `EnvironmentFailure` while another is at it.

    The run that has it may ask again. A folder in which nothing is left is removed.
    """
    lock = FileLock(folder / LOCK, is_singleton=True)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except (Timeout, FileNotFoundError) as error:  # the latter: it has just removed the folder
        raise EnvironmentFailure(f"{output}: another run is writing it") from error
    except OSError as error:
        raise EnvironmentFailure(f"{output}: cannot be written: {error}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            if lock.lock_counter == 1 and {path.name for path in folder.iterdir()} <= {LOCK}:
                (folder / LOCK).unlink()  # while it is ours: nobody else has this file
                for each in made or [folder]:
                    each.rmdir()
        lock.release()


def recorded(folder: Path, about: Mapping[str, Any]) -> list[str]:
    """Names of the finished parts, in the order in which they were made.

    Raises `DescriptorsError` for a damaged manifest, and for parts of another making than
    `about`.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        before, names = dict(manifest["about"]), [str(name) for name in manifest["shards"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder / MANIFEST, error) from error
    if names and before != dict(about):
        other = [key for key in about if before.get(key) != about[key]]
        reason = f"holds parts made with another {', '.join(other)}"
        raise DescriptorsError(folder, reason, advice=_ADVICE)
    return names


def images(part: Path) -> list[str]:
    """Paths of the images that a finished part holds. Raises `DescriptorsError`."""
    try:
        return results.names(part)
    except DescriptorsError as error:
        raise damaged(part, error.reason) from error


def damaged(part: Path, reason: object) -> DescriptorsError:
    """The error for a part that cannot be gone on from."""
    return DescriptorsError(part, f"is damaged: {reason}", advice=_ADVICE)


def changed_since(file: Path, image: Path) -> bool:
    """Whether an image was written, or put there, after a file that its descriptor is in."""
    try:
        found = image.stat()
    except (OSError, ValueError):  # gone, or no name that a file can have
        return False
    # The second is when it got its name: a copy may bring its original's time. One in the future
    # is of a clock that was wrong.
    times = found.st_mtime_ns, found.st_ctime_ns
    return any(file.stat().st_mtime_ns < each <= time.time_ns() for each in times)


def record(
    folder: Path,
    about: Mapping[str, Any],
    names: Sequence[str],
    *,
    faults: Mapping[str, str] | None = None,
    complete: bool = False,
) -> None:
    """Write the manifest, whole or not at all; `complete`: no image is left to be described."""
    facts = {"schema": 1, "complete": complete, "about": dict(about), "shards": list(names)}
    facts["faults"] = dict(faults or {})
    with results.replacing(folder / MANIFEST) as draft:
        draft.write_text(json.dumps(facts, indent=1), "utf-8")
