"""The table format of LevelDB, which a TF checkpoint's index is: sorted keys with values.

Layout (LevelDB's doc/table_format.md): data blocks, an index block whose values
are the data blocks' places, and a footer that says where the index block is.
Within a block a key is stored as the part that differs from the key before.
Read whole: an index is kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import google_crc32c

from converters.checkpoint import Array

__all__ = ["MAGIC", "crc32c", "read_table", "read_varint"]

#: The last eight bytes of a table, little-endian.
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5  # after each block: its compression, and a checksum of both
_LONGEST = 4096  # of a key: what is stored once may be repeated by every entry
_MASK_DELTA = 0xA282EAD8
_COMPRESSIONS = {0: "none", 1: "snappy", 4: "zstd"}


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Every key with its value, in the table's order. Raises ValueError with the reason."""
    if len(data) < _FOOTER or not data.endswith(MAGIC):
        raise ValueError("is not a table: its last bytes are not the format's")
    footer = data[-_FOOTER:]
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    table: dict[bytes, bytes] = {}
    for _, place in _entries(_block(data, *index)):
        handle, _ = _handle(place, 0)
        table.update(_entries(_block(data, *handle)))
    return table


def crc32c(data: bytes | Array) -> int:
    """The CRC-32C as tables and tensor bundles store it: rotated and offset.

    An array must be contiguous and read-only; it is not copied.
    """
    value = int(google_crc32c.value(data))
    return (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of seven bits per byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("has a number of more than 64 bits")


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """A block's offset and size, and where that pair ends."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + _TRAILER > len(data) - _FOOTER:
        raise ValueError(f"is cut off: a block at {offset} reaches beyond the end")
    compression, stored = data[end], int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    if crc32c(data[offset : end + 1]) != stored:
        raise ValueError(f"is damaged: the block at {offset} does not match its checksum")
    if compression:
        name = _COMPRESSIONS.get(compression, f"of kind {compression}")
        raise ValueError(f"is compressed ({name}), which TensorFlow's Saver does not do")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    if end < 0:
        raise ValueError("is damaged: a block is shorter than its own index")
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise ValueError("is damaged: an entry reaches beyond its block")
        if shared + fresh > _LONGEST:
            raise ValueError(f"is damaged: a name of {shared + fresh} bytes")
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length
