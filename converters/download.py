"""Files over HTTP into the cache: mirrors in order, broken transfers continued, hashes checked."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from converters import cache
from converters.catalogue import NamedSource, Progress, Provided, Remote
from converters.errors import EnvironmentFailure, SourceError
from converters.transfer import RefusedError, Transfer

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
        if path.is_file():
            digest = cache.sha256(path)
            if digest == (_known(remote, path) or digest):
                return path, _remark(remote, path, digest)
            progress(f"{path} is damaged, it is fetched again", 0, None)
    faults: dict[str, str] = {}
    unreached = False
    for remote in remotes:
        try:
            path = _download(remote, folder, progress)
        except RefusedError as error:
            faults[remote.url] = str(error)
        except requests.RequestException as error:
            faults[remote.url] = _reason(error)
            unreached |= error.response is None
        else:
            return path, _remark(remote, path, cache.sha256(path))
    said = "".join(f"\n  {url}: {reason}" for url, reason in faults.items())
    raise (EnvironmentFailure if unreached else SourceError)(
        f"{remotes[0].filename} could not be downloaded{said}",
        advice="what has arrived is kept, and the next try goes on from there; "
        "or give --source PATH for a file you have",
    )


def _download(remote: Remote, folder: Path, progress: Progress) -> Path:
    """One mirror, taken up again as long as something more arrives."""
    path = folder / remote.filename
    known = _known(remote, path)
    client = pooch.create(
        path=folder,
        base_url="",
        registry={remote.filename: known and f"sha256:{known}"},
        urls={remote.filename: remote.url},
    )
    transfer = Transfer(remote, folder, known, progress)
    while True:
        before = transfer.arrived
        try:
            client.fetch(remote.filename, downloader=transfer)
            return path
        except requests.RequestException as error:
            if error.response is not None or transfer.arrived <= before:
                raise
        except ValueError as error:  # the hash; pooch has deleted what came
            if not transfer.continued:
                raise RefusedError(_mismatch(remote, path, str(error))) from error
        time.sleep(_PAUSE)


def _known(remote: Remote, path: Path) -> str | None:
    """The published checksum, or else that of the first download."""
    return remote.sha256 or cache.recorded(path)


def _remark(remote: Remote, path: Path, digest: str) -> str:
    if remote.sha256:
        return ""
    if cache.recorded(path) is None:
        cache.record(path, digest)
    return (
        f"{path.name}: sha256 {digest}; no checksum of it is published, so that of the "
        "first download is kept and compared with"
    )


def _mismatch(remote: Remote, path: Path, said: str) -> str:
    found = re.search(r"but got (\w+)", said)
    text = f"sent sha256 {found[1] if found else '?'}, not {_known(remote, path)}"
    if remote.sha256:
        return text
    return f"{text} as first downloaded; if the change is meant, delete {path.name}.sha256"


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    deepest = re.search(r"\[Errno [^\]]+\] ([^'\")]+)", str(error))
    return deepest[1] if deepest else str(error)
