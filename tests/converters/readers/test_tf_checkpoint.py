"""TF checkpoints: our own small bundles for what goes wrong, TensorFlow's for the truth."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from converters.checkpoint import Array
from converters.errors import ReadError
from converters.readers.matconvnet import read as read_mat
from converters.readers.sstable import MAGIC, read_table
from converters.readers.tf_checkpoint import read

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
DTYPES = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i8": 9, "b1": 10, "f2": 19}


# --- a small writer of the format: one block, nothing shared between keys


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def proto(**fields: int | bytes) -> bytes:
    """Fields f1, f2, … of a message; f6 is the fixed32 checksum."""
    message = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, bytes):
            message += varint(number << 3 | 2) + varint(len(value)) + value
        elif number == 6:
            message += varint(number << 3 | 5) + struct.pack("<I", value)
        else:
            message += varint(number << 3) + varint(value)
    return message


def masked(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries: Mapping[bytes, bytes], compression: int = 0) -> bytes:
    body = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in entries.items())
    body += struct.pack("<II", 0, 1) + bytes([compression])
    return body + struct.pack("<I", masked(body))


def table(entries: Mapping[bytes, bytes], compression: int = 0) -> bytes:
    data = block(entries, compression)
    index = block({max(entries): varint(0) + varint(len(data) - 5)})
    handles = varint(0) + varint(0) + varint(len(data)) + varint(len(index) - 5)
    return data + index + handles.ljust(40, b"\0") + MAGIC


def record(tensor: Array, offset: int, **changes: Any) -> bytes:
    sizes = b"".join(proto(f2=proto(f1=size)) for size in tensor.shape)
    fields: dict[str, Any] = {
        "f1": DTYPES[tensor.dtype.str[1:]],
        "f2": sizes,
        "f4": offset,
        "f5": tensor.nbytes,
        "f6": masked(tensor.tobytes()),
    }
    return proto(**fields | changes)


def save(
    prefix: Path,
    tensors: Mapping[str, Array],
    changes: Mapping[str, Any] | None = None,
    header: bytes = b"\x08\x01",
    compression: int = 0,
) -> Path:
    """Write a bundle; `changes` are fields of the last tensor's record."""
    entries, data = {b"": header}, b""
    for name, tensor in tensors.items():
        last = name == list(tensors)[-1]
        entries[name.encode()] = record(tensor, len(data), **(changes or {}) if last else {})
        data += tensor.tobytes()
    folder, name = (prefix, "") if prefix.is_dir() else (prefix.parent, prefix.name)
    (folder / f"{name}.index").write_bytes(table(entries, compression))
    (folder / f"{name}.data-00000-of-00001").write_bytes(data)
    return prefix


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"f1": 14}, "kernel: has type bfloat16, which is not read"),
        ({"f1": 8}, "kernel: has type complex64"),
        ({"f1": 99}, "kernel: has type number 99"),
        ({"f5": 92}, r"kernel: has 92 bytes where shape \(2, 3, 4\) needs 96"),
        ({"f2": proto(f2=proto(f1=2**64 - 1)) + proto(f2=b""), "f5": 0}, "tensor kernel"),
        ({"f4": 8}, "kernel: ends at byte 104, where its file has 100.*data-00000-of-00001"),
        ({"f6": 1}, "kernel: does not match its checksum .in m.data-00000-of-00001"),
        ({"f7": b"x"}, "kernel: is stored in slices"),
    ],
)
def test_bad_tensor(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    tensors: dict[str, Array] = {"bias": np.ones(1, np.float32), "kernel": KERNEL}
    with pytest.raises(ReadError, match=reason) as caught:
        read(save(tmp_path / "m", tensors, changes))
    assert "1 tensor refused" in caught.value.reason
    assert "bias" not in caught.value.reason
    assert caught.value.path == str(tmp_path / "m")


def test_every_bad_tensor_in_one_error(tmp_path: Path) -> None:
    tensors: dict[str, Array] = {
        "a": np.array([1, np.nan, np.inf], np.float32),
        "b": np.ones(2, np.float32),
        "c": np.full((2, 2), -np.inf, np.float64),
    }
    with pytest.raises(ReadError, match="2 tensors refused") as caught:
        read(save(tmp_path / "m", tensors))
    assert "tensor a: 2 of 3 values are NaN or infinite, the first at [1]" in caught.value.reason
    assert "tensor c: 4 of 4" in caught.value.reason


def test_missing_data_file(tmp_path: Path) -> None:
    prefix = save(tmp_path / "m", {"kernel": KERNEL}, {"f3": 1}, header=b"\x08\x02")
    with pytest.raises(ReadError, match="cannot be opened: No such file") as caught:
        read(prefix)
    assert caught.value.path == str(tmp_path / "m.data-00001-of-00002")


@pytest.mark.parametrize("kept", [0, 40])
def test_short_data_file(tmp_path: Path, kept: int) -> None:
    prefix = save(tmp_path / "m", {"kernel": KERNEL})
    data = tmp_path / "m.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:kept])
    with pytest.raises(ReadError, match=f"kernel: ends at byte 96, where its file has {kept}"):
        read(prefix)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda raw: b"", "is not a table"),
        (lambda raw: raw[:-1], "is not a table"),
        (lambda raw: b"x" * 60 + MAGIC, "is (cut off|damaged)"),
        (lambda raw: raw[9:], "is (cut off|damaged)"),
        (lambda raw: raw[:4] + bytes([raw[4] ^ 1]) + raw[5:], "does not match its checksum"),
        (lambda raw: table({b"kernel": b""}), "no checkpoint's index: it has no header"),
        (lambda raw: table({b"": b"", b"kernel": b"\x0b"}), "wire type 3"),
        (lambda raw: table({b"": b"", b"kernel": b"\x12\x7f"}), "a record is cut off"),
        (lambda raw: table({b"": b"", b"kernel": b"\x12\x02\x08"}), "a record is cut off"),
    ],
)
def test_bad_index(tmp_path: Path, edit: Callable[[bytes], bytes], reason: str) -> None:
    prefix = save(tmp_path / "m", {"kernel": KERNEL})
    index = tmp_path / "m.index"
    index.write_bytes(edit(index.read_bytes()))
    with pytest.raises(ReadError, match=reason) as caught:
        read(prefix)
    assert caught.value.path == str(index)


def test_other_forms_of_the_format(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"is compressed \(snappy\)"):
        read(save(tmp_path / "a", {"kernel": KERNEL}, compression=1))
    with pytest.raises(ReadError, match="big-endian"):
        read(save(tmp_path / "b", {"kernel": KERNEL}, header=b"\x08\x01\x10\x01"))


# --- what is read


def test_origin(tmp_path: Path) -> None:
    prefix = save(tmp_path / "m.ckpt-1", {"kernel": KERNEL})
    found = read(tmp_path)
    assert found.origin.path == prefix
    assert found.origin.format == "tf_checkpoint"
    assert [file.name for file in found.origin.files] == [
        "m.ckpt-1.index",
        "m.ckpt-1.data-00000-of-00001",
    ]
    assert (found.layers, found.preprocessing, found.origin.notes) == ((), {}, ())
    assert found.tensors.keys() == {"kernel"}
    np.testing.assert_array_equal(found.tensors["kernel"], KERNEL)


def test_empty_prefix(tmp_path: Path) -> None:
    save(tmp_path, {"kernel": KERNEL})
    for path in (tmp_path, tmp_path / ".index", tmp_path / ".data-00000-of-00001"):
        found = read(path)
        np.testing.assert_array_equal(found.tensors["kernel"], KERNEL)
        assert found.origin.path == tmp_path


def test_note_on_a_stale_checkpoint_file(tmp_path: Path) -> None:
    save(tmp_path / "a", {"kernel": KERNEL})
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "gone"', encoding="utf-8")
    (note,) = read(tmp_path).origin.notes
    assert note == "its file 'checkpoint' names gone.index, which is absent; read: a.index"


def test_types_shapes_and_alignment(tmp_path: Path) -> None:
    tensors: dict[str, Array] = {
        "bytes": np.array([1, 2, 3], np.uint8),
        "behind_odd_bytes": np.linspace(0, 1, 5),
        "scalar": np.array(2.5, np.float32),
        "none": np.zeros((0, 4), np.float32),
        "half": np.ones((2, 1), np.float16),
        "flag": np.array([True, False]),
        "steps": np.array([7], np.int64),
    }
    found = read(save(tmp_path / "m", tensors)).tensors
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].flags.aligned
        np.testing.assert_array_equal(found[name], tensor)


def test_tensors_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    kernel = read(save(tmp_path / "m", {"kernel": KERNEL})).tensors["kernel"]
    assert not kernel.flags.owndata
    assert not kernel.flags.writeable


def test_what_is_left_out(tmp_path: Path) -> None:
    counter, suffix = np.array(7, np.int64), "/.ATTRIBUTES/VARIABLE_VALUE"
    tensors: dict[str, Array] = {
        "a/global_step": counter,
        f"model/kernel{suffix}": KERNEL,
        f"save_counter{suffix}": counter,
        "vector/global_step": np.array([7], np.int64),
        "_CHECKPOINTABLE_OBJECT_GRAPH": np.array([1], np.uint8),
    }
    found = read(save(tmp_path / "m", tensors, {"f1": 7}))
    assert list(found.tensors) == ["model/kernel", "vector/global_step"]
    assert found.origin.notes == (
        "left out: a/global_step, a counter",
        "left out: save_counter, a counter",
        "left out: _CHECKPOINTABLE_OBJECT_GRAPH, which is text",
    )


def test_table_with_shared_prefixes_and_several_blocks() -> None:
    def shared(entries: list[tuple[int, bytes, bytes]]) -> bytes:
        body = b"".join(
            varint(count) + varint(len(key)) + varint(len(value)) + key + value
            for count, key, value in entries
        )
        body += struct.pack("<II", 0, 1) + b"\0"
        return body + struct.pack("<I", masked(body))

    first = shared([(0, b"layer/bias", b"1"), (6, b"kernel", b"22"), (12, b"2", b"")])
    second = shared([(0, b"x", b"333")])
    places = [varint(0) + varint(len(first) - 5), varint(len(first)) + varint(len(second) - 5)]
    index = shared([(0, b"m", places[0]), (0, b"z", places[1])])
    handle = varint(len(first) + len(second)) + varint(len(index) - 5)
    raw = first + second + index + (b"\0\0" + handle).ljust(40, b"\0") + MAGIC
    assert read_table(raw) == {
        b"layer/bias": b"1",
        b"layer/kernel": b"22",
        b"layer/kernel2": b"",
        b"x": b"333",
    }


# --- against TensorFlow itself


def test_like_tensorflow(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    v1, suffix = tf.compat.v1, "/.ATTRIBUTES/VARIABLE_VALUE"
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("scope/kernel", initializer=KERNEL)
        v1.get_variable("scope/bias", initializer=np.float32(2))
        v1.train.get_or_create_global_step()
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "tf1/model.ckpt"), global_step=5)
    module = tf.Module()
    module.layer = {"kernel": tf.Variable(KERNEL), "flag": tf.Variable([True])}
    tf.train.Checkpoint(model=module).save(str(tmp_path / "tf2/ckpt"))
    (tmp_path / "many").mkdir()
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "many/m"),
        tensor_names=[f"scope_{number // 9}/kernel_{number}" for number in range(2000)],
        shape_and_slices=[""] * 2000,
        tensors=[rng.standard_normal((3, number % 5, 2)) for number in range(2000)],
    )
    for folder, count, left_out in (
        ("tf1", 2, {"global_step"}),
        ("tf2", 2, {f"save_counter{suffix}", "_CHECKPOINTABLE_OBJECT_GRAPH"}),
        ("many", 2000, set()),
    ):
        found = read(tmp_path / folder)
        theirs = tf.train.load_checkpoint(str(found.origin.path))
        keys = {name: name + suffix * (folder == "tf2") for name in found.tensors}
        assert len(keys) == count
        assert set(theirs.get_variable_to_shape_map()) - set(keys.values()) == left_out
        for name, tensor in found.tensors.items():
            expected = theirs.get_tensor(keys[name])
            assert tensor.dtype == expected.dtype
            assert tensor.shape == expected.shape
            assert tensor.tobytes() == expected.tobytes()


def test_what_tensorflow_writes_and_we_refuse(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    half = "4 2 0,2:-"
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "m"),
        tensor_names=["split", "brain", "z"],
        shape_and_slices=[half, "", ""],
        tensors=[np.ones((2, 2), np.float32), tf.ones(3, tf.bfloat16), KERNEL * 1j],
    )
    with pytest.raises(ReadError, match="3 tensors refused") as caught:
        read(tmp_path / "m")
    assert "tensor split: is stored in slices" in caught.value.reason
    assert "tensor brain: has type bfloat16" in caught.value.reason
    assert "tensor z: has type complex64" in caught.value.reason


def test_netvlad_checkpoint_like_tensorflow(shared_data: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    found = read(shared_data / "netvlad/vd16_white64")
    theirs = tf.train.load_checkpoint(str(shared_data / "netvlad/vd16_white64"))
    assert found.tensors.keys() == set(theirs.get_variable_to_shape_map())
    assert len(found.tensors) == 31
    for name, tensor in found.tensors.items():
        np.testing.assert_array_equal(tensor, theirs.get_tensor(name))


def test_netvlad_checkpoint_is_the_mat_file(shared_data: Path) -> None:
    pytest.importorskip("matio", reason="mat-io decodes class objects")
    ours = read(shared_data / "netvlad/vd16_white64").tensors
    source = read_mat(shared_data / "netvlad/vd16_white64_classes_v7.mat")
    renamed = {
        "normalization/averageImage": "average_rgb",
        "vlad:core/weights/0": "assignment/kernel",
        "vlad:core/weights/1": "cluster_centers",
    }
    assert len(source.tensors) == len(ours) == 31
    for name, tensor in source.tensors.items():
        layer, _, part = name.partition("/weights/")
        name = renamed.get(name) or f"{layer}/{'bias' if part == '1' else 'kernel'}"
        expected = ours[f"vgg16_netvlad_pca/{name}"]
        np.testing.assert_array_equal(tensor.reshape(expected.shape), expected)
