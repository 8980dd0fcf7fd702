"""The HDF5 layouts that NetVLAD's Keras weights have had, by canonical name. No Keras here.

model      written by `model.save("….h5")`: `model_weights/<layer>/<layer>/<weight>`.
weights    written by `model.save_weights("….weights.h5")`, and found inside `.keras`:
           `layers/<class>/vars/<n>`, with the layer's name in an attribute.
keras 2.2  `netvlad_weights.h5` of the first Keras port (2019):
           `<layer>/<layer>/<weight>:0` under numbered names, read by order and shape.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from netvlad_keras.spec import NetVLADSpec, source_name
from netvlad_keras.trunks import VD16

__all__ = ["Stored", "WeightsError", "WeightsFile", "check", "opened"]

_ADVICE = (
    "load_weights takes a .h5, .weights.h5 or .keras file of netvlad-keras, or the "
    "netvlad_weights.h5 of the first Keras port"
)


class WeightsError(ValueError):
    """A weights file that does not fit: every missing, unexpected and misshapen entry.

    Raised before any variable changes.
    """

    def __init__(
        self,
        reason: str,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Sequence[str] = (),
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshapen = tuple(misshapen)
        lines = [f"missing: {name}" for name in self.missing]
        lines += [f"unexpected: {name}" for name in self.unexpected]
        lines += [f"wrong shape: {text}" for text in self.misshapen]
        super().__init__("\n  ".join([reason, *lines]))


@dataclass(frozen=True, slots=True)
class Stored:
    """One weight in an open file; `np.asarray` reads it."""

    dataset: Any
    shape: tuple[int, ...]
    sign: int = 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        values = np.asarray(self.dataset[()], dtype=dtype).reshape(self.shape)
        return values if self.sign == 1 else np.negative(values)


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
    spec: NetVLADSpec | None = None


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


@contextmanager
def opened(path: str | PathLike[str]) -> Iterator[WeightsFile]:
    """Open a weights file of any of the layouts, for reading on demand.

    Raises `WeightsError` for a file that is none of them, and for one that
    leads out of itself (external links or storage, virtual datasets).
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    try:
        with _container(path) as (file, config):
            layout = next((name for name, sign, _ in _LAYOUTS if sign(file)), None)
            if layout is None:
                raise WeightsError(f"{path}: not a NetVLAD weights file; {_ADVICE}")
            read = next(read for name, _, read in _LAYOUTS if name == layout)
            yield WeightsFile(
                layout,
                read(file),
                frozenset({"input/mean"}) if layout == "keras 2.2" else frozenset(),
                _spec(config or file.attrs.get("model_config")),
            )
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); {_ADVICE}") from error


@contextmanager
def _container(path: Path) -> Iterator[tuple[Any, str | None]]:
    """The HDF5 file at `path`, or the one inside a `.keras` archive with its config."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file, None
        return
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r") as file:
            yield file, archive.read("config.json").decode()


def _spec(config: Any) -> NetVLADSpec | None:
    """The spec in a model's config, read as JSON; no class is looked up."""
    try:
        return NetVLADSpec.from_dict(json.loads(config)["config"]["spec"])
    except (TypeError, ValueError, KeyError):
        return None


def _read_model(file: Any) -> dict[str, Stored]:
    entries = {}
    for layer, group in _groups(file["model_weights"]):
        for path in group.attrs.get("weight_names", ()):
            dataset = _dataset(group, _text(path))
            weight = _text(path).rsplit("/", 1)[-1]
            entries[f"{source_name(layer)}/{weight}"] = Stored(dataset, dataset.shape)
    return entries


#: Weights of a layer in the order in which Keras numbers them.
_ORDER: dict[str, dict[int, tuple[str, ...]]] = {
    "input": {1: ("mean",)},
    "vlad:core": {2: ("assignment", "centers"), 3: ("assignment", "bias", "centers")},
}
_KERNEL_BIAS: dict[int, tuple[str, ...]] = {2: ("kernel", "bias")}


def _read_weights(file: Any) -> dict[str, Stored]:
    entries = {}
    for _, group in _groups(file["layers"]):
        if "vars" not in group or not len(group["vars"]):
            continue
        stored = group["vars"]
        layer = source_name(_text(stored.attrs.get("name", group.name)))
        names = _ORDER.get(layer, _KERNEL_BIAS).get(len(stored))
        for index in range(len(stored)):
            dataset = _dataset(stored, str(index))
            name = names[index] if names else str(index)
            entries[f"{layer}/{name}"] = Stored(dataset, dataset.shape)
    return entries


def _read_keras22(file: Any) -> dict[str, Stored]:
    """Convolutions in VGG-16's order and then WPCA, whatever numbers they carry.

    The NetVLAD group holds the centres first, negated as MatConvNet has them,
    and then the assignment.
    """
    convolutions = iter([row.name for row in VD16 if row.kind == "conv"] + ["WPCA"])
    entries = {}
    for layer, group in _groups(file):
        found = [_dataset(group, _text(path)) for path in group.attrs.get("weight_names", ())]
        ranks = [len(dataset.shape) for dataset in found]
        if ranks == [5, 4]:
            centers, assignment = found
            entries["vlad:core/assignment"] = Stored(assignment, assignment.shape[2:])
            entries["vlad:core/centers"] = Stored(centers, centers.shape[3:], sign=-1)
        elif ranks == [4, 1]:
            name = next(convolutions, layer)
            kernel, bias = found
            shape = kernel.shape[2:] if name == "WPCA" else kernel.shape
            entries[f"{name}/kernel"] = Stored(kernel, shape)
            entries[f"{name}/bias"] = Stored(bias, bias.shape)
        else:
            entries.update({f"{layer}/{i}": Stored(d, d.shape) for i, d in enumerate(found)})
    return entries


#: Layout, how a file shows that it has it, and what reads it.
_LAYOUTS: tuple[tuple[str, Callable[[Any], bool], Callable[[Any], dict[str, Stored]]], ...] = (
    ("model", lambda file: "model_weights" in file, _read_model),
    ("weights", lambda file: "layers" in file and "layer_names" not in file.attrs, _read_weights),
    ("keras 2.2", lambda file: "layer_names" in file.attrs, _read_keras22),
)


def _groups(parent: Any) -> Iterator[tuple[str, Any]]:
    names = parent.attrs.get("layer_names", parent)
    for name in names:
        yield _text(name), _inside(parent, _text(name))


def _dataset(group: Any, path: str) -> Any:
    for part in path.split("/"):
        group = _inside(group, part)
    if group.external or group.is_virtual:
        raise WeightsError(f"{group.file.filename}: {group.name} keeps its values in another file")
    return group


def _inside(group: Any, name: str) -> Any:
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise WeightsError(f"{group.file.filename}: {group.name}/{name} leads out of the file")
    return group[name]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
