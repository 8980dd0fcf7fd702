"""What is done to a good file: to its bytes, and to the structure that its format has."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import h5py
import numpy as np
import onnx

from converters.readers.sstable import crc32c

from .corpus import Seed

__all__ = ["MENDED", "mutate"]

Mutation = Callable[[bytes, random.Random], bytes]

#: Numbers at which formats turn: nothing, signs, sizes, MATLAB's tags and classes, protobuf keys.
_TELLING = (0, 1, 2, 3, 5, 8, 14, 15, 17, 127, 128, 200, 255, 1 << 15, (1 << 16) - 1, 1 << 20,
            (1 << 31) - 1, 1 << 31, (1 << 32) - 1)  # fmt: skip
_H5_MARKS = (b"\x89HDF", b"OHDR", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"FRHP", b"BTHD")


def mutate(seed: Seed, rng: random.Random) -> tuple[str, bytes]:
    """The mutation's name, and the seed's first file after it; other bytes than before."""
    data = next(iter(seed.files.values()))
    while True:
        pool = _STRUCTURAL.get(seed.kind, ()) if rng.random() < 0.6 else _PLAIN
        if seed.guarded and rng.random() < 0.25:
            name, changed = "guarded", _in_guarded(seed, data, rng)
        else:
            mutation = rng.choice(pool or _PLAIN)
            name, changed = mutation.__name__.strip("_"), mutation(data, rng)
        if changed != data:
            return name, changed


# --- bytes ----------------------------------------------------------------------------------


def _bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _word(data: bytes, rng: random.Random, at: int | None = None) -> bytes:
    changed = bytearray(data)
    place = 4 * rng.randrange(len(data) // 4) if at is None else at
    width = rng.choice((1, 2, 4, 4, 8))
    value = rng.choice(_TELLING) if rng.random() < 0.7 else rng.getrandbits(32)
    changed[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(changed[: len(data)])


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _span(data: bytes, rng: random.Random) -> bytes:
    """A stretch left out, twice there, zeroed, or put elsewhere."""
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 4, 8, 64, 512, 4096)))
    piece, other = data[start:end], rng.randrange(len(data))
    return rng.choice(
        (
            data[:start] + data[end:],
            data[:end] + piece + data[end:],
            data[:start] + bytes(end - start) + data[end:],
            data[:other] + piece + data[other + len(piece) :],
        )
    )


def _head(data: bytes, rng: random.Random) -> bytes:
    """Most formats decide in their first bytes and their last."""
    near = rng.randrange(min(len(data) - 8, 256))
    return _word(data, rng, near if rng.random() < 0.6 else len(data) - 8 - near)


def _in_guarded(seed: Seed, data: bytes, rng: random.Random) -> bytes:
    start, end = rng.choice(seed.guarded)
    inside = data[start:end]
    return data[:start] + rng.choice((_bits, _word))(inside.ljust(4, b"\0"), rng)[
        : end - start
    ] + data[end:]  # fmt: skip


_PLAIN: tuple[Mutation, ...] = (_bits, _word, _cut, _span, _head)

# --- MAT version 5 --------------------------------------------------------------------------


def _tags(data: bytes, start: int, end: int) -> Iterator[int]:
    """Where the elements begin, those inside arrays too."""
    while start + 8 <= end:
        kind, size = struct.unpack_from("<II", data, start)
        yield start
        if kind >> 16:  # a small element: its size stands in the tag
            start += 8
            continue
        if kind == 14:
            yield from _tags(data, start + 8, min(end, start + 8 + size))
        start += 8 + (size + 7) // 8 * 8


def _tag(data: bytes, rng: random.Random) -> bytes:
    """One word of a tag, or of what comes right behind it: flags, sizes, a name."""
    place = rng.choice(list(_tags(data, 128, len(data))) or [0])
    return _word(data, rng, min(place + 4 * rng.randrange(5), len(data) - 8))


def _inside_zlib(data: bytes, rng: random.Random) -> bytes:
    """The same inside the stream, which is then good again."""
    (size,) = struct.unpack_from("<I", data, 132)
    plain = data[:128] + zlib.decompress(data[136 : 136 + size])
    stream = zlib.compress(rng.choice((_tag, _tag, _word, _cut))(plain, rng)[128:])
    return data[:128] + struct.pack("<II", 15, len(stream)) + stream + data[136 + size :]


# --- HDF5 -----------------------------------------------------------------------------------


def _mark(data: bytes, rng: random.Random) -> bytes:
    """A word behind one of the signatures that HDF5's own structures have."""
    mark = rng.choice([m for m in _H5_MARKS if m in data])
    places, at = [], data.find(mark)
    while at >= 0:
        places.append(at)
        at = data.find(mark, at + 1)
    return _word(data, rng, min(rng.choice(places) + rng.randrange(4, 96), len(data) - 8))


def _object(data: bytes, rng: random.Random) -> bytes:
    """Another attribute, link, dataset or shape, as a valid file."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        item = file[name]
        parent, own = item.parent, name.rpartition("/")[2]
        match rng.randrange(8):
            case 0 if item.attrs:
                key = rng.choice(list(item.attrs))
                item.attrs[key] = rng.choice((np.bytes_("cell"), np.bytes_("single"), 3, 1, "x"))
            case 1 if item.attrs:
                del item.attrs[rng.choice(list(item.attrs))]
            case 2:
                item.attrs[rng.choice(("MATLAB_empty", "MATLAB_object_decode"))] = rng.randrange(4)
            case 3:
                del parent[own]
            case 4:
                del parent[own]
                parent[own] = rng.choice(
                    (h5py.SoftLink("/"), h5py.SoftLink("/no"), h5py.ExternalLink("other.h5", "/x"))
                )
            case 5:
                del parent[own]
                parent[own] = file  # a cycle
            case 6:
                del parent[own]
                shape = rng.choice(((0,), (1, 1), (3, 4, 5), (1 << 40,)))
                parent.create_dataset(own, shape, rng.choice(("f4", "f8", "u2", "S4")), chunks=True)
            case _:
                parent[f"{own} again"] = item
    return buffer.getvalue()


# --- the others -----------------------------------------------------------------------------


def _block(data: bytes, rng: random.Random) -> bytes:
    """A TensorFlow index's block is changed and its checksum made to fit."""
    ends = [n for n in range(16, len(data) - 53) if data[n] == 0 and _fits(data, n)]
    if not ends:
        return _word(data, rng)
    end = rng.choice(ends)
    block = _word(data[:end], rng, rng.randrange(max(1, end - 8)))
    return block + data[end : end + 1] + _checksum(block + data[end : end + 1]) + data[end + 5 :]


def _fits(data: bytes, end: int) -> bool:
    return data[end + 1 : end + 5] == _checksum(data[: end + 1])


def _checksum(data: bytes) -> bytes:
    return crc32c(data).to_bytes(4, "little")


def _archive(data: bytes, rng: random.Random) -> bytes:
    """The zip is written again with one member changed, gone, or squeezed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        victim = rng.choice(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            if name == victim:
                how = rng.choice((_object, _mark)) if name.endswith(".h5") else _span
                content = rng.choice((how, how, _bits, _cut))(content, rng)
            if name != victim or rng.random() < 0.95:
                new.writestr(name, content, rng.choice((0, 0, 0, zipfile.ZIP_DEFLATED)))
    return buffer.getvalue()


def _header(data: bytes, rng: random.Random) -> bytes:
    """safetensors: another fact in the header, or another length of it."""
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.2:
        return _word(data, rng, 0)
    header = json.loads(data[8 : 8 + length])
    name = rng.choice(list(header))
    facts = header[name]
    key = rng.choice(list(facts))
    other = header[rng.choice(list(header))]
    choices: tuple[object, ...] = (
        "F64",
        "I8",
        "BF16",
        [],
        [-1],
        [1 << 62, 4],
        [0, 8],
        [8, 0],
        None,
        {},
        "",
        "[nan]",
    )
    facts[key] = other.get(key, []) if rng.random() < 0.3 else rng.choice(choices)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _message(data: bytes, rng: random.Random) -> bytes:
    """ONNX: another fact of a tensor, a node or the graph, as a valid message."""
    model = onnx.ModelProto.FromString(data)
    tensor = rng.choice(list(model.graph.initializer))
    node = rng.choice(list(model.graph.node))
    match rng.randrange(8):
        case 0:
            tensor.dims[:] = rng.choice(([], [-1], [1 << 40, 1 << 40], [0], [3, 3], [1 << 31]))
        case 1:
            tensor.data_type = rng.choice((0, 2, 8, 10, 11, 16, 22, 99))
        case 2:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            place = rng.choice(("/etc/passwd", "../x", "net.onnx", "", "x" * 5000))
            tensor.external_data.add(key="location", value=place)
            tensor.external_data.add(key="offset", value=rng.choice(("0", "-1", "x", "9" * 30)))
        case 3:
            node.input.append(rng.choice((node.output[0], "nothing", "")))
        case 4:
            node.op_type, node.domain = rng.choice((("Nothing", ""), ("Conv", "strange")))
        case 5:
            del model.graph.input[:]
        case 6:
            tensor.name = rng.choice([t.name for t in model.graph.initializer] + [""])
        case _:
            if model.metadata_props:
                rng.choice(list(model.metadata_props)).value = rng.choice(
                    ("", "{", "[]", '{"a":3}')
                )
    return bytes(model.SerializeToString())


_STRUCTURAL: dict[str, tuple[Mutation, ...]] = {
    "mat_v5": (_tag,),
    "mat_v5_zlib": (_inside_zlib,),
    "mat_v73": (_mark, _object),
    "mat_v73_zlib": (_mark, _object),
    "tf_index": (_block,),
    "keras_h5": (_mark, _object),
    "keras_weights": (_mark, _object),
    "keras": (_archive,),
    "hloc": (_header,),
    "onnx": (_message,),
}

#: Those after which every checksum is right again, so that none can tell.
MENDED = frozenset(("inside_zlib", "object", "block", "archive"))
