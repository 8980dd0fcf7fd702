"""The HDF5 layouts that our models' weights have had, by canonical name. No Keras here.

model      written by `model.save("….h5")`: `model_weights/<layer>/<layer>/<weight>`.
weights    written by `model.save_weights("….weights.h5")`, and found inside `.keras`:
           `layers/<class>/vars/<n>`, with the layer's name in an attribute.
keras 2.2  `netvlad_weights.h5` of the first Keras port (2019):
           `<layer>/<layer>/<weight>:0` under numbered names, read by order and shape.
           The published one lacks the mean, others have it in their first layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from netvlad_keras.errors import WeightsError
from netvlad_keras.spec import canonical_name, source_name
from netvlad_keras.trunks import VD16

__all__ = ["LAYOUTS", "Roles", "Stored"]

#: What the weights of each Keras layer are called, in the order in which Keras numbers them.
Roles = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Stored:
    """One weight in an open file; `np.asarray` reads it, or raises `WeightsError`."""

    dataset: Any
    shape: tuple[int, ...]
    sign: int = 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        try:
            values = np.asarray(self.dataset[()], dtype=dtype).reshape(self.shape)
        except OSError as error:
            raise WeightsError(f"{self.dataset.name} cannot be read ({error})") from error
        return values if self.sign == 1 else np.negative(values)


def _read_model(file: Any, roles: Roles) -> dict[str, Stored]:
    entries: dict[str, Stored] = {}
    for layer, group in _groups(file["model_weights"]):
        for path in group.attrs.get("weight_names", ()):
            dataset = _dataset(group, _text(path))
            weight = _text(path).rsplit("/", 1)[-1]
            _add(entries, canonical_name(layer, weight), Stored(dataset, dataset.shape))
    return entries


#: The same of a NetVLAD, by source name and number of weights.
_ORDER: dict[str, dict[int, tuple[str, ...]]] = {
    "input": {1: ("mean",)},
    "vlad:core": {2: ("assignment", "centers"), 3: ("assignment", "bias", "centers")},
}
_KERNEL_BIAS: dict[int, tuple[str, ...]] = {2: ("kernel", "bias")}


def _read_weights(file: Any, roles: Roles) -> dict[str, Stored]:
    entries: dict[str, Stored] = {}
    for stored in _variables(file["layers"]):
        layer = _text(stored.attrs.get("name", stored.name))
        names = roles.get(layer, ())
        if len(names) != len(stored):
            names = _ORDER.get(source_name(layer), _KERNEL_BIAS).get(len(stored), ())
        for index in range(len(stored)):
            dataset = _dataset(stored, str(index))
            name = names[index] if names else str(index)
            _add(entries, canonical_name(layer, name), Stored(dataset, dataset.shape))
    return entries


def _variables(parent: Any) -> Iterator[Any]:
    """Every group `vars`, those of layers within layers too."""
    for name in parent:
        child = _inside(parent, name)
        if name == "vars":
            yield child
        elif isinstance(child, h5py.Group):
            yield from _variables(child)


def _read_keras22(file: Any, roles: Roles) -> dict[str, Stored]:
    """Convolutions in VGG-16's order and then WPCA, whatever numbers they carry.

    The NetVLAD group holds the centres first, negated as MatConvNet has them,
    and then the assignment.
    """
    convolutions = iter([row.name for row in VD16 if row.kind == "conv"] + ["WPCA"])
    entries: dict[str, Stored] = {}
    for layer, group in _groups(file):
        found = [_dataset(group, _text(path)) for path in group.attrs.get("weight_names", ())]
        match [dataset.shape for dataset in found]:
            case [(1, 1, 1, *centers), (1, 1, *assignment)] if len(centers) == 2:
                _add(entries, "vlad:core/assignment", Stored(found[1], tuple(assignment)))
                _add(entries, "vlad:core/centers", Stored(found[0], tuple(centers), sign=-1))
            case [(height, width, *channels), (_,) as bias] if len(channels) == 2:
                name = next(convolutions, layer)
                flat = name == "WPCA" and height == width == 1
                kernel = tuple(channels) if flat else (height, width, *channels)
                _add(entries, f"{name}/kernel", Stored(found[0], kernel))
                _add(entries, f"{name}/bias", Stored(found[1], bias))
            case [(3,)]:
                _add(entries, "input/mean", Stored(found[0], (3,)))
            case _:
                for index, dataset in enumerate(found):
                    _add(entries, f"{layer}/{index}", Stored(dataset, dataset.shape))
    return entries


def _add(entries: dict[str, Stored], name: str, stored: Stored) -> None:
    if name in entries:
        raise WeightsError(f"holds {name} twice")
    entries[name] = stored


#: Layout, how a file shows that it has it, and what reads it.
LAYOUTS: tuple[
    tuple[str, Callable[[Any], bool], Callable[[Any, Roles], dict[str, Stored]]], ...
] = (
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
    if not isinstance(group, h5py.Dataset) or group.dtype.kind != "f":
        raise WeightsError(f"{group.name} is not an array of floating-point numbers")
    if group.external or group.is_virtual:
        raise WeightsError(f"{group.name} keeps its values in another file")
    if not group.id.get_storage_size():
        raise WeightsError(f"{group.name} was never written")
    return group


def _inside(group: Any, name: str) -> Any:
    link = group.get(name, getlink=True)
    if link is None:
        raise WeightsError(f"{group.name} names {name}, which is not there")
    if not isinstance(link, h5py.HardLink):
        raise WeightsError(f"{group.name}/{name} leads out of the file")
    return group[name]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
