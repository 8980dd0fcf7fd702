"""Our models' weights in files, checked before anything is assigned. No Keras here."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import WeightsError
from netvlad_keras.layouts import LAYOUTS, Roles, Stored
from netvlad_keras.net import NetSpec
from netvlad_keras.spec import NetVLADSpec, keras_name

__all__ = ["Stored", "WeightsError", "WeightsFile", "check", "opened", "values"]

_ADVICE = (
    "load_weights takes a .h5, .weights.h5 or .keras file of netvlad-keras, or the "
    "netvlad_weights.h5 of the first Keras port"
)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """An open file's weights by canonical name.

    layout   `model`, `weights` or `keras 2.2`.
    entries  `conv1_1/kernel` and so on, arrays that are read on demand.
    lacks    weights of a whole model that this layout never held.
    spec     the spec that the file records, if it records one.
    """

    layout: str
    entries: Mapping[str, Stored]
    lacks: frozenset[str] = frozenset()
    spec: NetVLADSpec | NetSpec | None = None


def check(arrays: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `WeightsError` unless `arrays` are exactly `expected` (name -> shape)."""
    missing = [name for name in expected if name not in arrays]
    unexpected = [name for name in arrays if name not in expected]
    misshapen = [
        f"{name} is {tuple(arrays[name].shape)}, the model has {shape}"
        for name, shape in expected.items()
        if name in arrays and tuple(arrays[name].shape) != shape
    ]
    if missing or unexpected or misshapen:
        raise WeightsError("these weights are not this model's", missing, unexpected, misshapen)


def values(
    arrays: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """`check`, then every array in float32, all in memory at once.

    Raises `WeightsError` also for NaN, infinity, and what cannot be read.
    """
    check(arrays, expected)
    found = {name: np.asarray(arrays[name], dtype=np.float32) for name in expected}
    wrong = [
        name for name, value in found.items() if not np.isfinite([value.min(), value.max()]).all()
    ]
    if wrong:
        raise WeightsError(f"NaN or infinity in {', '.join(wrong)}")
    return found


@contextmanager
def opened(path: str | PathLike[str], roles: Roles | None = None) -> Iterator[WeightsFile]:
    """Open a weights file of any of the layouts, for reading on demand.

    A `.weights.h5` file numbers a layer's weights: `roles` names them by Keras
    layer; without it, those of a NetVLAD have their names. In a model's file
    its own spec names them.

    Raises `WeightsError` for a file that is none of them, and for one that
    leads out of itself (external links or storage, virtual datasets). A
    `WeightsError` of the caller's own leaves with the path before it.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise WeightsError("there is no such file")
        with ExitStack() as stack:
            try:
                found = _found(*stack.enter_context(_container(path)), roles)
            except WeightsError:
                raise
            except Exception as error:  # h5py and zipfile have a dozen for broken files
                raise WeightsError(f"cannot be read ({error}); {_ADVICE}") from error
            yield found
    except WeightsError as error:
        reason = f"{path}: {error.reason}"
        raise WeightsError(reason, error.missing, error.unexpected, error.misshapen) from error


def _found(file: Any, config: str | None, roles: Roles | None) -> WeightsFile:
    for layout, sign, read in LAYOUTS:
        if sign(file):
            spec = _spec(config or file.attrs.get("model_config"))
            entries = read(file, _roles(spec) if roles is None else roles)
            lacks = {"input/mean"} - entries.keys() if layout == "keras 2.2" else ()
            return WeightsFile(layout, entries, frozenset(lacks), spec)
    raise WeightsError(f"not a NetVLAD weights file; {_ADVICE}")


#: Keras stores its archive's members as they are; what swells this much is a bomb.
_SWELL = 64


@contextmanager
def _container(path: Path) -> Iterator[tuple[Any, str | None]]:
    """The HDF5 file at `path`, or the one inside a `.keras` archive with its config."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file, None
        return
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("model.weights.h5").file_size > _SWELL * path.stat().st_size:
            raise WeightsError(f"its weights would swell to more than {_SWELL} times its size")
        weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r") as file:
            yield file, archive.read("config.json").decode()


def _spec(config: Any) -> NetVLADSpec | NetSpec | None:
    """The spec in a model's config, read as JSON; no class is looked up."""
    try:
        data = json.loads(config)["config"]["spec"]
        return (NetSpec if "rows" in data else NetVLADSpec).from_dict(data)
    except (TypeError, ValueError, KeyError):
        return None


def _roles(spec: NetVLADSpec | NetSpec | None) -> Roles:
    """What a net's layers call the weights that are theirs; a shared one is its first reader's."""
    if not isinstance(spec, NetSpec):
        return {}
    roles: dict[str, tuple[str, ...]] = {}
    for name, _ in spec.inputs[:1]:
        roles[f"{keras_name(name)}.mean"] = ("mean",)
    for row in spec.rows:
        own = (w.role for w in row.weights if w.name == f"{row.name}/{w.role}")
        roles[keras_name(row.name)] = tuple(own)
    return roles
