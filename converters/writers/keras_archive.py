"""Writes `model.keras`, Keras 3's archive, the same bytes at every run."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from converters.writers.options import WriteOptions

__all__ = ["write"]

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(model: Any, path: Path, options: WriteOptions) -> None:
    """Save `model`, then write the archive again without the time of day in it."""
    draft = path.with_name(f"draft-{path.name}")
    try:
        model.save(draft)
        with zipfile.ZipFile(draft) as source, zipfile.ZipFile(path, "w") as target:
            for name in sorted(source.namelist()):
                _copy(source, target, name)
    finally:
        draft.unlink(missing_ok=True)


def _copy(source: zipfile.ZipFile, target: zipfile.ZipFile, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    if name == "metadata.json":
        metadata = json.loads(source.read(name))
        metadata["date_saved"] = "1980-01-01@00:00:00"
        target.writestr(entry, json.dumps(metadata))
        return
    entry.file_size = source.getinfo(name).file_size
    with source.open(name) as reading, target.open(entry, "w") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
