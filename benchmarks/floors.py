"""What this machine can do at best: bytes per second of its disk, its page cache, sha256, zlib."""

from __future__ import annotations

import hashlib
import os
import platform
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Speeds", "compress", "evict", "inflating", "machine", "measured"]

_CHUNK = 1 << 24
_REPEATS = 3
_HEADER = 128
_COMPRESSED = 15  # miCOMPRESSED of MATLAB's MAT-file format, version 5


@dataclass(frozen=True, slots=True)
class Speeds:
    """Bytes per second, the best of a few tries.

    disk_write  into a new file, until all of it is on the disk.
    disk_read   of a file that is not in the page cache.
    cache_write into a new file, while the page cache takes it.
    cache_read  of a file that is in the page cache.
    sha256      of a file that is in the page cache.
    """

    disk_write: float
    disk_read: float
    cache_write: float
    cache_read: float
    sha256: float


def measured(folder: Path, size: int) -> Speeds:
    """Measure with a file of about `size` bytes in `folder`."""
    chunk = os.urandom(min(_CHUNK, size))
    count = max(1, size // len(chunk))
    path = folder / "speed.bin"
    tries = [_one(path, chunk, count) for _ in range(_REPEATS)]
    path.unlink()
    return Speeds(*(count * len(chunk) / min(seconds) for seconds in zip(*tries, strict=True)))


def machine(speeds: Speeds) -> str:
    """This machine and what was measured of it, in two lines."""
    rates = {
        "disk write": speeds.disk_write,
        "disk read": speeds.disk_read,
        "file write (page cache)": speeds.cache_write,
        "file read (page cache)": speeds.cache_read,
        "sha256": speeds.sha256,
    }
    return (
        f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"{psutil.virtual_memory().total / 1e9:.0f} GB, Python {platform.python_version()}; "
        f"load of the last minute {os.getloadavg()[0]:.1f}\n"
        f"MB/s: {', '.join(f'{name} {rate / 1e6:,.0f}' for name, rate in rates.items())}"
    )


def _one(path: Path, chunk: bytes, count: int) -> tuple[float, ...]:
    """Seconds, in the order of `Speeds`."""
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(chunk)
        cached = time.perf_counter() - started
        os.fsync(file.fileno())
    written = time.perf_counter() - started
    evict(path)
    cold = _timed(lambda: sum(map(len, _chunks(path))))
    warm = _timed(lambda: sum(map(len, _chunks(path))))
    return written, cold, cached, warm, _timed(lambda: _sha256(path))


def evict(path: Path) -> None:
    """Drop a file from the page cache, so that the next one who reads it reads the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def inflating(path: Path) -> float:
    """Seconds that zlib alone needs for a file that `compress` made."""

    def inflate() -> None:
        stream = zlib.decompressobj()
        for index, chunk in enumerate(_chunks(path)):
            stream.decompress(chunk if index else chunk[_HEADER + 8 :])

    return _timed(inflate)


def compress(source: Path, target: Path) -> None:
    """A .mat file of version 5 with one variable, as MATLAB compresses it (save -v7)."""
    stream = zlib.compressobj()
    draft = target.with_name(f"{target.name}.part")
    with source.open("rb") as reading, draft.open("wb") as writing:
        writing.write(reading.read(_HEADER) + bytes(8))
        while chunk := reading.read(_CHUNK):
            writing.write(stream.compress(chunk))
        writing.write(stream.flush())
        size = writing.tell() - _HEADER - 8
        writing.seek(_HEADER)
        writing.write(struct.pack("<II", _COMPRESSED, size))
    draft.replace(target)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _sha256(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
