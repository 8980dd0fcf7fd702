"""netvlad_tf_open's checkpoint, out of the zip in which it is published."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from converters import cache, download
from converters.catalogue import NamedSource, Progress, Provided
from converters.errors import SourceError

__all__ = ["extract", "provide"]

_BLOCK = 1 << 20
#: The index comes last, so that a checkpoint that has one is whole.
_SUFFIXES = (".data-00000-of-00001", ".index")
_LARGEST = 2 << 30
#: What zipfile raises for damage, encryption and unknown compression.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def provide(source: NamedSource, folder: Path, progress: Progress) -> Provided:
    """The checkpoint's prefix. The zip is not kept once it is unpacked."""
    prefix = folder / source.netvlad_name
    (remote,) = source.remotes
    if not cache.holds(folder, str(remote.sha256), progress):
        path, _ = download.fetch(source.remotes, folder, progress)
        cache.keep(folder, str(remote.sha256), extract(path, prefix, progress))
        path.unlink()
    return Provided((prefix,))


def extract(path: Path, prefix: Path, progress: Progress) -> tuple[Path, ...]:
    """Unpack the one checkpoint in a zip to the files of `prefix`, and nothing else.

    Names inside the zip decide nothing about where files go. Raises
    `SourceError` for a zip that is broken, or holds none or several.
    """
    try:
        with (
            zipfile.ZipFile(path) as archive,
            TemporaryDirectory(dir=prefix.parent, prefix=".unpack.") as folder,
        ):
            found = []
            for suffix in _SUFFIXES:
                target = prefix.with_name(prefix.name + suffix)
                new = Path(folder) / target.name
                _unpack(archive, _member(archive, path, suffix), new, progress)
                found.append((new, target))
            for new, target in found:
                new.replace(target)
    except _BROKEN as error:
        reason = f"cannot be unpacked: {error}"
        raise SourceError(f"{path}: {reason}", advice="delete it and fetch it again") from error
    return tuple(target for _, target in found)


def _member(archive: zipfile.ZipFile, path: Path, suffix: str) -> zipfile.ZipInfo:
    found = [
        member
        for member in archive.infolist()
        if member.filename.endswith(suffix) and "__MACOSX" not in member.filename
    ]
    if len(found) != 1:
        names = ", ".join(member.filename for member in found) or "none"
        raise SourceError(f"{path}: one *{suffix} is needed, it holds {names}")
    if found[0].file_size > _LARGEST:
        raise SourceError(f"{path}: {found[0].filename} has {found[0].file_size:,} bytes")
    return found[0]


def _unpack(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, progress: Progress
) -> None:
    done = 0
    with archive.open(member) as source, target.open("wb") as file:
        while block := source.read(_BLOCK):
            done += len(block)
            if done > member.file_size:
                raise zipfile.BadZipFile(f"{member.filename} is longer than it says")
            file.write(block)
            progress(target.name, done, member.file_size)
    if done != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename} has {done} of {member.file_size} bytes")
