"""TensorFlow checkpoints, TF1's and TF2's (the V2 bundle), without TensorFlow.

An `.index` file maps each variable's name to its type, shape and place in the
`.data-*` files, which are mapped into memory: tensors are read-only views.
Source: tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converters.checkpoint import Array, Checkpoint, Origin
from converters.errors import ReadError
from converters.readers import memory
from converters.readers.finite import not_finite
from converters.readers.sstable import crc32c, read_table, read_varint
from converters.readers.tf_bundle_path import Bundle, find_bundle

__all__ = ["read"]

_COUNTERS = frozenset({"global_step", "save_counter"})
_OBJECT_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_STRING, _INTEGERS = 7, (3, 9)
# tensorflow/core/framework/types.proto
_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?",
    17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
_OTHER_DTYPES = {
    8: "complex64", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16",
    16: "quint16", 18: "complex128", 20: "resource", 21: "variant", 24: "float8_e5m2",
    25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip
_LARGEST = 64 << 20
_FETCH = "If the checkpoint is damaged or incomplete, copy all of its files again."


@dataclass(frozen=True, slots=True)
class _Entry:
    """One variable's record: BundleEntryProto."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_sliced: bool


def read(path: Path) -> Checkpoint:
    """Read every numeric variable, each checked against its stored CRC-32C.

    `path` is a prefix, one of the checkpoint's files, or a directory. Names are
    the variables' own (TF2's without `/.ATTRIBUTES/VARIABLE_VALUE`), axes
    TensorFlow's; a TF checkpoint has no layers. Raises `ReadError` that names
    the file and every tensor that cannot be carried.
    """
    memory.at("index")
    bundle = find_bundle(path)
    shard_count, entries = _index(bundle.index)
    _refuse_shards(bundle, shard_count, entries)
    memory.at("values")
    notes = list(bundle.notes)
    kept = dict(_numeric(entries, notes))
    used = sorted({entry.shard for entry in kept.values() if not entry.is_sliced})
    files = {number: bundle.shard(number, shard_count) for number in used}
    shards = {number: _mapped(file) for number, file in files.items()}
    tensors: dict[str, Array] = {}
    faults: dict[str, str] = {}
    for name, entry in kept.items():
        try:
            tensors[name] = _tensor(entry, shards)
        except (ValueError, OverflowError) as error:
            place = f" (in {files[entry.shard].name})" if entry.shard in files else ""
            faults[name] = f"{error}{place}"
    if faults:
        lines = "".join(f"\n  tensor {name}: {reason}" for name, reason in faults.items())
        count = f"{len(faults)} tensor" + "s" * (len(faults) > 1)
        raise ReadError(bundle.prefix, f"{count} refused{lines}", advice=_FETCH)
    origin = Origin(
        path=bundle.prefix,
        format="tf_checkpoint",
        files=(bundle.index, *files.values()),
        notes=tuple(notes),
    )
    return Checkpoint(tensors=tensors, layers=(), preprocessing={}, origin=origin)


def _index(path: Path) -> tuple[int, dict[str, _Entry]]:
    """How many shards there are, and the variables' records."""
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise ValueError(f"is an index of {size} bytes, more than the {_LARGEST} that are read")
        table = read_table(path.read_bytes())
        header = _fields(table.pop(b""))
        if _number(header, 2):
            raise ValueError("was written on a big-endian machine; save it again on another")
        # Slices of partitioned variables have keys of their own, which begin with a zero.
        names = [key for key in table if not key.startswith(b"\0")]
        return _number(header, 1, 1), {key.decode(): _entry(table[key]) for key in names}
    except KeyError as error:
        raise ReadError(
            path, "is no checkpoint's index: it has no header", advice=_FETCH
        ) from error
    except (OSError, ValueError) as error:
        raise ReadError(path, str(error), advice=_FETCH) from error


def _refuse_shards(bundle: Bundle, count: int, entries: Mapping[str, _Entry]) -> None:
    """Every data file that the index names must be there, whatever lies in it."""
    for number in sorted({entry.shard for entry in entries.values() if not entry.is_sliced}):
        if not 0 <= number < count:
            reason = f"names data file {number} of {count}, counted from 0"
            raise ReadError(bundle.index, reason, advice=_FETCH)
        if not bundle.shard(number, count).is_file():
            reason = "a data file of the checkpoint cannot be opened: No such file or directory"
            raise ReadError(bundle.shard(number, count), reason, advice=_FETCH)


def _numeric(entries: Mapping[str, _Entry], notes: list[str]) -> Iterator[tuple[str, _Entry]]:
    """The variables to keep under their plain names; says in `notes` which are not."""
    for key, entry in entries.items():
        name = key.removesuffix(_OBJECT_SUFFIX)
        is_scalar = entry.dtype in _INTEGERS and entry.shape == ()
        if entry.dtype == _STRING:
            notes.append(f"left out: {key}, which is text")
        elif is_scalar and name.rsplit("/", 1)[-1] in _COUNTERS:
            notes.append(f"left out: {name}, a counter")
        else:
            yield name, entry


def _mapped(path: Path) -> Array:
    """A data file's bytes, mapped: nothing is read before it is used."""
    try:
        return memory.mapped(path)
    except OSError as error:
        reason = f"a data file of the checkpoint cannot be opened: {error.strerror}"
        raise ReadError(path, reason, advice=_FETCH) from error


def _tensor(entry: _Entry, shards: Mapping[int, Array]) -> Array:
    if entry.is_sliced:
        raise ValueError("is stored in slices (a partitioned variable); save it unpartitioned")
    if entry.dtype not in _DTYPES:
        name = _OTHER_DTYPES.get(entry.dtype, f"number {entry.dtype}")
        raise ValueError(f"has type {name}, which is not read; cast it to float32 and save again")
    dtype = np.dtype(_DTYPES[entry.dtype])
    expected = int(np.prod(entry.shape, dtype=object)) * dtype.itemsize
    if entry.size != expected:
        raise ValueError(f"has {entry.size} bytes where shape {entry.shape} needs {expected}")
    shard = shards[entry.shard]
    if entry.offset + entry.size > shard.size:
        end = entry.offset + entry.size
        raise ValueError(f"ends at byte {end}, where its file has {shard.size}")
    data = shard[entry.offset : entry.offset + entry.size]
    if crc32c(data) != entry.checksum:
        raise ValueError("does not match its checksum")
    # Only an unaligned tensor (behind one of odd length) is copied.
    tensor = np.require(data.view(dtype), requirements="A").reshape(entry.shape)
    if wrong := not_finite(tensor):
        raise ValueError(wrong)
    return tensor


def _entry(record: bytes) -> _Entry:
    fields = _fields(record)
    shape = _fields(_bytes(fields, 2))
    sizes = (_number(_fields(dim), 1) for dim in shape.get(2, ()) if isinstance(dim, bytes))
    return _Entry(
        dtype=_number(fields, 1),
        shape=tuple(sizes),
        shard=_number(fields, 3),
        offset=_number(fields, 4),
        size=_number(fields, 5),
        checksum=_number(fields, 6),
        is_sliced=7 in fields,
    )


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """A protobuf message's fields by number, without a schema."""
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = read_varint(message, at)
            case 2:
                length, at = read_varint(message, at)
                value, at = message[at : at + length], at + length
            case 1 | 5 as wire:
                width = 8 if wire == 1 else 4
                value, at = int.from_bytes(message[at : at + width], "little"), at + width
            case wire:
                raise ValueError(f"is damaged: a record has a field of wire type {wire}")
        if at > len(message):
            raise ValueError("is damaged: a record is cut off")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: Mapping[int, list[int | bytes]], number: int, default: int = 0) -> int:
    value = fields.get(number, [default])[-1]
    if not isinstance(value, int):
        raise ValueError(f"is damaged: field {number} of a record is no number")
    return value


def _bytes(fields: Mapping[int, list[int | bytes]], number: int) -> bytes:
    value = fields.get(number, [b""])[-1]
    if not isinstance(value, bytes):
        raise ValueError(f"is damaged: field {number} of a record is no message")
    return value
