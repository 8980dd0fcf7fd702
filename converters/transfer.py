"""One transfer over HTTP that can be broken off and continued: a downloader for pooch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from converters.catalogue import Progress, Remote
from converters.errors import EnvironmentFailure

__all__ = ["RefusedError", "Transfer"]

_BLOCK = 1 << 16  # what a broken connection loses at most
_TIMEOUT = (10, 60)  # seconds to connect, and between two blocks


class RefusedError(Exception):
    """A server sent something that is not the file."""


class Transfer:
    """Fetches one file by way of `<filename>.part`, which outlives a broken transfer.

    A part is continued where the server confirms that the file has not changed
    since (If-Range), or where `known`, the whole file's sha256, will tell. In
    `<filename>.part.json` stands where the part came from.
    """

    def __init__(self, remote: Remote, folder: Path, known: str | None, progress: Progress) -> None:
        self._remote = remote
        self._part = folder / f"{remote.filename}.part"
        self._note = folder / f"{remote.filename}.part.json"
        self._known = known
        self._progress = progress
        #: Whether the last call went on with an older part.
        self.continued = False

    @property
    def arrived(self) -> int:
        """How many bytes lie in the part."""
        return self._part.stat().st_size if self._part.exists() else 0

    def __call__(self, url: str, output_file: str, *_: Any, **__: Any) -> None:
        """Bring `url` to `output_file`.

        Raises `requests.RequestException` for the network and the server's
        refusals, `RefusedError` for another file, `EnvironmentFailure` for the disk.
        """
        noted = self._noted(url)
        start = self.arrived if noted.get("validator") or self._known else 0
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if noted.get("validator"):
                headers["If-Range"] = noted["validator"]
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            self.continued = response.status_code == 206 and _continues(response, start, noted)
            if start and not self.continued and response.status_code in (206, 416):
                self._discard()
                return self(url, output_file)
            response.raise_for_status()
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise RefusedError("sent a web page where the file should be")
            self._receive(response, url, start if self.continued else 0)
        with self._disk():
            self._part.replace(output_file)
            self._note.unlink(missing_ok=True)
        return None

    def _receive(self, response: requests.Response, url: str, done: int) -> None:
        total = _total(response, done)
        with self._disk():
            note = {"url": url, "validator": _validator(response), "total": total}
            self._note.write_text(json.dumps(note), "utf-8")
            self._make_sure_of_room((total or 0) - done)
            with self._part.open("ab" if done else "wb") as file:
                for block in response.iter_content(_BLOCK):
                    file.write(block)
                    done += len(block)
                    self._progress(self._remote.filename, done, total)
        if total is not None and done < total:  # which urllib3 notices itself from 2.0 on
            raise requests.ConnectionError(f"broke off after {done:,} of {total:,} bytes")
        if self._remote.size not in (None, done):
            self._discard()
            raise RefusedError(f"sent {done:,} bytes, the file has {self._remote.size:,}")

    def _noted(self, url: str) -> dict[str, Any]:
        """What is known of the part, if it came from this address."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
            return dict(note) if note["url"] == url else {}
        except (OSError, ValueError, TypeError, KeyError):
            return {}

    def _make_sure_of_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._part.parent).free
        if needed > free:
            raise OSError(f"{needed / 1e6:,.0f} MB are to come, {free / 1e6:,.0f} MB are free")

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """What goes wrong in here, other than on the network, is this machine's."""
        try:
            yield
        except requests.RequestException:  # an OSError too
            raise
        except OSError as error:
            raise EnvironmentFailure(
                f"{self._part}: cannot be written: {error.strerror or error}",
                advice="make room there, or set NETVLAD_KERAS_CACHE to another folder",
            ) from error

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _continues(response: requests.Response, start: int, noted: dict[str, Any]) -> bool:
    """Whether a partial answer begins where the part ends, in the same file."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != start:
        return False
    pairs = ((noted.get("total"), span[2]), (noted.get("validator"), _validator(response)))
    return all(
        str(before) == now for before, now in pairs if before is not None and now not in (None, "*")
    )


def _validator(response: requests.Response) -> str | None:
    """What If-Range takes: a strong ETag, or else the date."""
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if tag.startswith("W/") else tag


def _total(response: requests.Response, done: int) -> int | None:
    length = response.headers.get("Content-Length")
    coded = response.headers.get("Content-Encoding", "identity") != "identity"
    return None if length is None or coded else done + int(length)
