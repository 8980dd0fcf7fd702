"""Which checkpoint is meant by a path: a prefix, one of its files, or a directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from converters.errors import ReadError

__all__ = ["Bundle", "find_bundle"]

_INDEX = ".index"
_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_STATED = re.compile(r'^model_checkpoint_path:\s*"(.*)"\s*$', re.MULTILINE)
_V1_ADVICE = (
    "A checkpoint of the old V1 format is one file without .index; in TensorFlow, restore it and "
    "save it again with tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V2)."
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checkpoint's files: `<prefix>.index` and `<prefix>.data-N-of-M`.

    The prefix may be empty (`folder/.index`): then it is the folder itself.
    """

    index: Path
    notes: tuple[str, ...] = ()

    @property
    def prefix(self) -> Path:
        return self.index.parent / self.index.name.removesuffix(_INDEX)

    def shard(self, number: int, count: int) -> Path:
        name = self.index.name.removesuffix(_INDEX)
        return self.index.with_name(f"{name}.data-{number:05d}-of-{count:05d}")


def find_bundle(path: Path) -> Bundle:
    """The checkpoint that `path` names; `ReadError` lists the candidates if it names none."""
    index = path.with_name(_SUFFIX.sub("", path.name) + _INDEX) if path.name else path
    if index.is_file():
        return Bundle(index)
    if path.is_dir():
        return _in_directory(path)
    if path.is_file():
        raise ReadError(path, f"has no {index.name} beside it", advice=_V1_ADVICE)
    reason = "does not exist, nor does a checkpoint of that name"
    raise ReadError(path, reason, advice=_candidates(path.parent))


def _in_directory(directory: Path) -> Bundle:
    found, stated = _indexes(directory), _stated(directory)
    if stated in found:
        return Bundle(directory / stated)
    claim = f"its file 'checkpoint' names {stated}, which is absent" if stated else ""
    if len(found) == 1:
        return Bundle(directory / found[0], (f"{claim}; read: {found[0]}",) if claim else ())
    if not found:
        reason = f"holds no checkpoint, that is no file *{_INDEX}"
        raise ReadError(directory, reason, advice=_V1_ADVICE)
    claim = claim or "no file 'checkpoint' says which is meant"
    reason = f"holds {len(found)} checkpoints, and {claim}"
    raise ReadError(directory, reason, advice=_candidates(directory))


def _indexes(directory: Path) -> list[str]:
    try:
        files = list(directory.iterdir()) if directory.is_dir() else []
    except OSError as error:
        reason = f"cannot be listed: {error.strerror}"
        raise ReadError(directory, reason, advice="Give yourself the right to read it.") from error
    return sorted(file.name for file in files if file.name.endswith(_INDEX))


def _candidates(directory: Path) -> str:
    found = [str(directory / name) for name in _indexes(directory)]
    return f"Give one of: {', '.join(found)}" if found else "Give a checkpoint's path."


def _stated(directory: Path) -> str:
    """The index file that the directory's file `checkpoint` names, "" if it names none.

    The path in it is that of the machine where the checkpoint was saved: only its
    last part still holds.
    """
    try:
        text = (directory / "checkpoint").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = _STATED.search(text)
    return re.split(r"[/\\]", match[1])[-1] + _INDEX if match else ""
