"""MatConvNet's .mat files, MAT versions 5 to 7.3, as people really saved them.

The container is turned into one neutral form; everything
after that does not know which it was. SimpleNN and DagNN are told apart by
their layers. NetVLAD's nets (Relja/netvlad) are SimpleNN nets with layers of
its own classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint, Origin
from converters.errors import ConversionError, EnvironmentFailure, ReadError
from converters.readers import dagnn, simplenn
from converters.readers.finite import not_finite
from converters.readers.mat_v5_elements import Damaged
from converters.readers.mat_value import MatObject, Struct, Value, describe, is_empty, plain
from converters.readers.net import Net
from converters.readers.weights import floating

__all__ = ["read"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEADER = 128
_NET_FIELDS = (
    "layers", "meta", "vars", "params", "normalization", "netID", "sessionID", "epoch",
)  # fmt: skip
# What a net may hold beside them that says nothing about what it computes.
_BOOKKEEPING = frozenset(
    ("accumulateParamDers", "classes", "conserveMemory", "device", "mode", "onGPU", "opts")
)
_FETCH = "The file is damaged or not what it says: fetch it again and compare its checksum."


def read(path: Path) -> Checkpoint:
    """Read a SimpleNN or a DagNN net.

    Tensors keep MATLAB's axes and the file's type: filters H×W×I×O, vectors
    one axis, the mean H×W×C under `MEAN`. Raises `ReadError` where the file is
    not a readable net, `LayerError` with every layer that cannot be carried,
    and `EnvironmentFailure` where class objects need mat-io and it is missing.
    """
    container, decode = _container(path), _Decoder(path)
    with _parsing(path):
        name, source = _find_net(path, container, decode)
    layers = _entries(source["layers"])
    if not layers:
        raise ReadError(path, f"{name or 'net'} has no layers", advice="Save a net that has some.")
    if dagnn.is_dagnn(layers):
        net = dagnn.parse(path, layers, source.get("params"), decode)
    else:
        net = simplenn.parse(path, layers, decode)
    if unknown := [k for k in source if k not in _BOOKKEEPING and k not in _NET_FIELDS]:
        net.notes.append(f"left out: {', '.join(unknown)} of the net")
    meta = _merged_meta(source)
    normalization = meta.get("normalization")
    normalization = normalization if isinstance(normalization, dict) else {}
    mean = _mean(path, normalization.get("averageImage"), net)
    if normalization is source.get("normalization"):
        net.notes.append("upgraded: the net's normalization is now meta.normalization")
    settings = {k: plain(value) for k, value in normalization.items() if k != "averageImage"}
    if dropped := [key for key, value in settings.items() if value is None]:
        net.notes.append(f"left out: {', '.join(dropped)} of meta.normalization")
    session = meta.get("sessionID")
    return Checkpoint(
        tensors=({} if mean is None else {MEAN: mean}) | net.tensors,
        layers=tuple(net.layers),
        preprocessing={key: value for key, value in settings.items() if value is not None},
        origin=Origin(
            path=path,
            format="matconvnet",
            files=(path,),
            session=session if isinstance(session, str) else "",
            notes=tuple(net.notes),
        ),
    )


def _container(path: Path) -> ModuleType:
    """The module that reads this version of MAT-file, told by the file's first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
            signatures = [head[:8]]
            for offset in (512, 1024, 2048):
                file.seek(offset)
                signatures.append(file.read(8))
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise ReadError(path, reason, advice="Give the path of a .mat file.") from error
    if _HDF5 in signatures:
        return import_module("converters.readers.mat_v73")
    if len(head) == _HEADER and head[126:] in (b"IM", b"MI"):
        return import_module("converters.readers.mat_v5")
    start = f", it begins with {head[:24]!r}" if head else ": it is empty"
    raise ReadError(path, f"is not a MATLAB 5 to 7.3 file{start}", advice=_FETCH)


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """The border to scipy, h5py and mat-io: whatever they raise becomes a ReadError."""
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, Damaged) else f"{type(error).__name__}: "
        reason = f"cannot be parsed: {kind}{error}"
        raise ReadError(path, reason, advice=_FETCH) from error


def _find_net(path: Path, container: ModuleType, decode: _Decoder) -> tuple[str, Struct]:
    """The net and its variable's name, "" where its fields are variables of the file."""
    kinds: dict[str, str] = container.variables(path)
    candidates = [n for n, kind in kinds.items() if kind == "struct" or kind.endswith("DagNN")]
    if "net" in candidates and (net := _net_in(path, container, "net", decode)):
        return "net", net
    if "layers" in kinds:
        return "", container.load(path, [name for name in _NET_FIELDS if name in kinds])
    found = {n: _net_in(path, container, n, decode) for n in candidates if n != "net"}
    nets = {name: net for name, net in found.items() if net is not None}
    if len(nets) == 1:
        return nets.popitem()
    if nets:
        reason = f"holds {len(nets)} nets: {', '.join(nets)}"
        raise ReadError(path, reason, advice="Save one of them alone, as net.")
    listing = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "no variable"
    raise ReadError(
        path,
        f"no net inside, that is a struct with layers; it has {listing}",
        advice="Give the file that holds the net; an object of a class is saved as a struct: "
        "net = net.saveobj(); save('net.mat', 'net').",
    )


def _net_in(path: Path, container: ModuleType, name: str, decode: _Decoder) -> Struct | None:
    """A variable's fields, where it is a net, as a struct or as an object of dagnn.DagNN."""
    value: Value = container.load(path, [name])[name]
    if isinstance(value, MatObject):
        value = decode(value)
    return value if isinstance(value, dict) and "layers" in value else None


def _entries(layers: Value) -> list[Value]:
    if isinstance(layers, list):
        return layers
    return [] if is_empty(layers) else [layers]


class _Decoder:
    """Decodes class objects, with mat-io, which is only imported when there is one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decode: Callable[[MatObject], Struct] | None = None

    def __call__(self, item: MatObject) -> Struct:
        if self._decode is None:
            self._decode = self._opened(item.classname)
        return self._decode(item)

    def _opened(self, classname: str) -> Callable[[MatObject], Struct]:
        try:
            objects = import_module("converters.readers.mat_objects")
        except ImportError as error:
            raise EnvironmentFailure(
                f"{self._path}: holds objects of MATLAB classes ({classname}), "
                f"which mat-io decodes, and mat-io cannot be imported: {error}",
                advice="pip install 'netvlad-keras[convert]'",
            ) from error
        with _parsing(self._path):
            decode: Callable[[MatObject], Struct] = objects.decoder(self._path)
            return decode


def _merged_meta(net: Struct) -> Struct:
    """`meta`, with what older nets keep beside it (relja_simplenn_tidy)."""
    meta = net.get("meta")
    meta = dict(meta) if isinstance(meta, dict) else {}
    if "normalization" in net:
        meta.setdefault("normalization", net["normalization"])
    return meta | {name: net[name] for name in ("netID", "sessionID", "epoch") if name in net}


def _mean(path: Path, value: Value | None, net: Net) -> Array | None:
    """averageImage as H×W×C, from each of the shapes in which it is found."""
    if value is None or is_empty(value):
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf" or value.ndim > 3:
        raise ReadError(path, f"averageImage is {describe(value)}", advice="Expected are numbers.")
    mean = floating(value)
    if wrong := not_finite(mean):
        raise ReadError(path, f"averageImage: {wrong}", advice=_FETCH)
    if mean.ndim == 3:
        return mean
    is_vector = mean.size > 1 and 1 in mean.shape and mean.size == _channels(net)
    return mean.reshape(1, 1, -1) if is_vector or mean.size == 1 else mean[:, :, np.newaxis]


def _channels(net: Net) -> int:
    """How many channels the first convolution reads; 3 where there is none."""
    first: Any = next((t for t in net.tensors.values() if t.ndim == 4), None)
    return 3 if first is None else int(first.shape[2])
