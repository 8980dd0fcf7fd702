"""Small good files of every kind that is read, and where in them a checksum guards a weight.

mat_v5         MAT version 5, uncompressed                  nothing guards it
mat_v5_zlib    the same, each variable one zlib stream      adler32 of the whole stream
mat_v73        MAT version 7.3, contiguous datasets         nothing
mat_v73_zlib   the same in deflated chunks                  adler32 of each chunk
tf_index       a TensorFlow checkpoint's index              crc32c of each block
tf_data        its data                                     crc32c of each tensor
keras_h5       `model.save("….h5")`                         nothing
keras_weights  `.weights.h5`                                nothing
keras          a zip with `model.weights.h5`, stored        crc32 of the member
hloc           safetensors                                  nothing
onnx           initializers as raw data                     nothing
"""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint, Layer
from converters.mini import mini
from converters.writers.sources import hloc_safetensors, matconvnet

__all__ = ["Seed", "lay_out", "save_v73", "seeds"]

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Seed:
    """One good file.

    files    name -> bytes of everything that is read, the changed one first.
    opens    which of them is given to the reader, or the checkpoint's prefix.
    guarded  (from, to) in the first file: a change in there must never give other weights.
    """

    kind: str
    files: dict[str, bytes]
    opens: str
    guarded: tuple[Span, ...] = ()


def seeds(artifacts: Path, checkpoint: Path, scratch: Path) -> list[Seed]:
    """A seed of every kind, from what `convert` made of `mini` and from its TF checkpoint."""
    plain, packed = scratch / "plain.mat", scratch / "packed.mat"
    matconvnet.write(_tiny(), plain)
    packed.write_bytes(_deflated(plain.read_bytes()))
    hloc = scratch / "hloc.safetensors"
    hloc_safetensors.write(mini(), hloc)
    found = [_single("mat_v5", plain), _single("mat_v5_zlib", packed, _element)]
    for kind, filters in (("mat_v73", {}), ("mat_v73_zlib", {"compression": "gzip"})):
        path = scratch / f"{kind}.mat"
        save_v73(path, _tiny(), filters)
        found.append(_single(kind, path, _chunks))
    index, data = (
        (checkpoint.with_name(checkpoint.name + end)).read_bytes()
        for end in (".index", ".data-00000-of-00001")
    )
    both = {"net.index": index, "net.data-00000-of-00001": data}
    found.append(Seed("tf_index", both, "net", ((0, len(index)),)))
    found.append(Seed("tf_data", dict(reversed(both.items())), "net", ((0, len(data)),)))
    for kind, name in (("keras_h5", "model.h5"), ("keras_weights", "model.weights.h5")):
        found.append(_single(kind, artifacts / name))
    found.append(_single("keras", artifacts / "model.keras", _member))
    found.append(_single("hloc", hloc))
    found.append(_single("onnx", artifacts / "model.onnx"))
    return found


def _single(kind: str, path: Path, guarded: Callable[[Path], Iterator[Span]] | None = None) -> Seed:
    name = f"net{''.join(path.suffixes)}" if kind != "hloc" else "net.safetensors"
    spans = tuple(guarded(path)) if guarded else ()
    return Seed(kind, {name: path.read_bytes()}, name, spans)


def _tiny() -> Checkpoint:
    """The seeded small net, cut behind its first block: few layers are read quickly."""
    net = mini()
    layers = net.layers[:6]
    kept = {name for layer in layers for name in layer.params} | {MEAN}
    tensors = {name: tensor for name, tensor in net.tensors.items() if name in kept}
    return Checkpoint(tensors, layers, net.preprocessing, net.origin)


def _deflated(plain: bytes) -> bytes:
    """A version 5 file with each of its variables as one zlib stream."""
    parts, at = [plain[:128]], 128
    while at < len(plain):
        (size,) = struct.unpack_from("<I", plain, at + 4)
        stream = zlib.compress(plain[at : at + 8 + size])
        parts.append(struct.pack("<II", 15, len(stream)) + stream)
        at += 8 + size
    return b"".join(parts)


def _element(path: Path) -> Iterator[Span]:
    data, at = path.read_bytes(), 128
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        yield at + 8, at + 8 + size
        at += 8 + size


def _chunks(path: Path) -> Iterator[Span]:
    found: list[Any] = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda _, item: found.append(item))
        for item in found:
            if isinstance(item, h5py.Dataset) and item.chunks:
                for number in range(item.id.get_num_chunks()):
                    info = item.id.get_chunk_info(number)  # counted from the user block's start
                    yield info.byte_offset, info.byte_offset + info.size


def _member(path: Path) -> Iterator[Span]:
    data = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo("model.weights.h5")
    name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    start = info.header_offset + 30 + name + extra
    yield start, start + info.compress_size


def save_v73(path: Path, net: Checkpoint, filters: dict[str, Any]) -> None:
    """A SimpleNN net as MATLAB lays one out in HDF5: cells are datasets of references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group = _marked(file.create_group("net"), "struct")
        cells = [_layer(file, layer, net, filters) for layer in net.layers]
        _cell(group, "layers", cells)
        meta = _marked(group.create_group("meta"), "struct")
        normalization = _marked(meta.create_group("normalization"), "struct")
        _number(normalization, "averageImage", net.tensors[MEAN], filters)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, a seed of the fuzzer".ljust(124) + b"\x00\x02IM")


def _layer(file: Any, layer: Layer, net: Checkpoint, filters: dict[str, Any]) -> Any:
    number = len(file.require_group("#refs#"))
    group = _marked(file.create_group(f"#refs#/{number}"), "struct")
    _text(group, "type", layer.kind)
    _text(group, "name", layer.name)
    for name, value in layer.options.items():
        if isinstance(value, str):
            _text(group, name, value)
        else:
            _number(group, name, np.atleast_2d(np.asarray(value, np.float64)), {})
    weights = [
        _number(file, f"#refs#/{number}w{n}", np.atleast_2d(net.tensors[param]), filters)
        for n, param in enumerate(layer.params)
    ]
    if weights:
        _cell(group, "weights", weights)
    return group


def _cell(group: Any, name: str, items: list[Any]) -> None:
    table = np.empty((len(items), 1), dtype=h5py.ref_dtype)
    for index, item in enumerate(items):
        table[index, 0] = item.ref
    group[name] = table
    _marked(group[name], "cell")


def _text(group: Any, name: str, text: str) -> None:
    group[name] = np.array([[ord(letter)] for letter in text], np.uint16)
    _marked(group[name], "char")


def _number(group: Any, name: str, values: Array, filters: dict[str, Any]) -> Any:
    kind = "single" if values.dtype == np.float32 else "double"
    options = filters if values.size > 8 else {}
    return _marked(group.create_dataset(name, data=values.T, **options), kind)


def _marked(item: Any, kind: str) -> Any:
    item.attrs["MATLAB_class"] = np.bytes_(kind)
    return item


def lay_out(seed: Seed, changed: bytes, folder: Path) -> Path:
    """Put a seed's files, the first of them changed, into an empty folder; what is opened."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    first = next(iter(seed.files))
    for name, content in seed.files.items():
        (folder / name).write_bytes(changed if name == first else content)
    return folder / seed.opens
