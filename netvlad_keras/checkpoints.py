"""The state of a training in one file: weights, optimizer, mining, curves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import TrainingError
from netvlad_keras.results import replacing

__all__ = ["Checkpoint", "check", "read", "write"]

Array = NDArray[Any]

_SCHEMA = 1
_AGAIN = "Restart (--restart), or write to another folder."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What stands after an epoch.

    about    plain data that another run must share to go on: the recipe, the images.
    history  a row of numbers for each epoch, from 0, the net before training.
    arrays   by group (`model`, `optimizer`, `mining`), then by name.
    """

    about: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    arrays: Mapping[str, Mapping[str, Array]]

    def numbered(self, group: str, shapes: Iterable[tuple[int, ...]]) -> list[Array]:
        """The arrays of a group that were saved in order, if their shapes are these."""
        found = self.arrays.get(group, {})
        arrays = [found[name] for name in sorted(found)]
        if [array.shape for array in arrays] != [tuple(shape) for shape in shapes]:
            raise TrainingError(f"the checkpoint's {group} is of another model", advice=_AGAIN)
        return arrays


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file at once: a kill leaves the old one or the new one."""
    about = {"schema": _SCHEMA, "about": checkpoint.about, "history": checkpoint.history}
    flat = {
        f"{group}/{name}": array
        for group, arrays in checkpoint.arrays.items()
        for name, array in arrays.items()
    }
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(file, allow_pickle=False, **{"about": np.array(json.dumps(about))}, **flat)


def read(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, `None` if there is none. Raises `TrainingError` if it is broken."""
    if not path.exists():
        return None
    arrays: dict[str, dict[str, Array]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            for name in file.files:
                group, _, rest = name.partition("/")
                arrays.setdefault(group, {})[rest] = file[name]
        if about["schema"] != _SCHEMA:
            raise ValueError(f"schema {about['schema']}")
        return Checkpoint(about["about"], tuple(about["history"]), arrays)
    except Exception as error:  # zipfile and numpy have a dozen for broken files
        raise TrainingError(f"{path}: is damaged: {error}", advice=_AGAIN) from error


def check(path: Path, checkpoint: Checkpoint, about: Mapping[str, Any]) -> None:
    """Raise `TrainingError` unless the checkpoint is of a training `about` the same."""
    own = json.loads(json.dumps(about))
    names = [key for key in own if checkpoint.about.get(key) != own[key]]
    if names:
        raise TrainingError(
            f"{path}: is of a training with another {', '.join(names)}", advice=_AGAIN
        )
