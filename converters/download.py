"""Files over HTTP into the cache: mirrors in order, broken transfers continued, hashes checked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from converters import cache
from converters.catalogue import NamedSource, Progress, Provided, Remote
from converters.errors import EnvironmentFailure, SourceError
from converters.transfer import CutOffError, RefusedError, Transfer

__all__ = ["fetch", "provide"]

_PAUSE = 0.5  # seconds before a broken transfer is taken up again

pooch.get_logger().setLevel("WARNING")  # it announces every download


def provide(source: NamedSource, folder: Path, progress: Progress) -> Provided:
    """The source's file, out of the cache or from the first mirror that has it."""
    path, remark = fetch(source.remotes, folder, progress)
    return Provided((path,), (remark,) if remark else ())


def fetch(remotes: Sequence[Remote], folder: Path, progress: Progress) -> tuple[Path, str]:
    """A verified file, and what is to be said of its checksum.

    The caller holds the folder's lock. Raises `SourceError` where every mirror
    answered and none had the right file, `EnvironmentFailure` where one could
    not be reached or the disk is full; nothing is left under the final name.
    """
    for remote in remotes:
        path = folder / remote.filename
        if path.is_file() and (digest := cache.sha256(path)) == _known(remote, path, digest):
            return path, _remark(remote, path, digest)
    faults: dict[str, str] = {}
    unreached = False
    for remote in remotes:
        try:
            path = _download(remote, folder, progress)
        except RefusedError as error:
            faults[remote.url] = str(error)
        except requests.RequestException as error:
            faults[remote.url] = _reason(error)
            unreached |= getattr(error, "response", None) is None
        else:
            return path, _remark(remote, path, cache.sha256(path))
    said = "".join(f"\n  {url}: {reason}" for url, reason in faults.items())
    raise (EnvironmentFailure if unreached else SourceError)(
        f"{remotes[0].filename} could not be downloaded{said}",
        advice="what has arrived is kept, and the next try goes on from there; "
        "or give --source PATH for a file you have",
    )
