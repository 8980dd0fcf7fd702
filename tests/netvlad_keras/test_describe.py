"""Describing images: what is refused, what is left out, and that nothing is lost or twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from netvlad_keras import decoding, results
from netvlad_keras.decoding import Resize, decoded, listed
from netvlad_keras.describe import describe
from netvlad_keras.describer import Model, cropped, described, opened
from netvlad_keras.engines import Contract, Engine, open_model
from netvlad_keras.errors import (
    CropError,
    DescriptorsError,
    EnvironmentFailure,
    ModelFileError,
    RetrievalError,
)
from netvlad_keras.preprocess import ImageError, load_image

ROOT = Path(__file__).resolve().parents[2]
MakeOnnx = Callable[..., Path]
needs_pyarrow = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")

WHITE = {"layouts": json.dumps({"WPCA": "NC"})}
NOT_WHITE = {"layouts": json.dumps({"postL2": "NC"})}


# Models.


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.onnx", None, "no such file"),
        ("model.txt", b"", "a model is .onnx"),
        ("model", b"", "a model is .onnx"),
        ("broken.onnx", b"\x08\x07garbage", "ONNX Runtime does not open it"),
    ],
)
def test_what_is_no_model_is_refused(
    name: str, content: bytes | None, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=said) as caught:
        open_model(tmp_path / name)
    assert caught.value.path == str(tmp_path / name)


def test_a_folder_without_a_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="folder of a SavedModel"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("taken", "given", "said"),
    [
        ([1, 24, 32, 3], [1, 24, 32, 3], "an image and its vector"),
        ([1, 8], [1, 8], "not images in RGB"),
        ([1, 24, 32, 1], None, "not images in RGB"),
    ],
)
def test_a_model_of_something_else_is_refused(
    taken: list[int], given: list[int] | None, said: str, tmp_path: Path
) -> None:
    make = onnx.helper.make_tensor_value_info
    given = given or [1, taken[1] * taken[2] * taken[3]]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    if given != taken:
        node = onnx.helper.make_node("Flatten", ["x"], ["y"])
    graph = onnx.helper.make_graph(
        [node],
        "net",
        [make("x", onnx.TensorProto.FLOAT, taken)],
        [make("y", onnx.TensorProto.FLOAT, given)],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "x.onnx"
    )
    with pytest.raises(ModelFileError, match=said):
        open_model(tmp_path / "x.onnx")


@pytest.mark.skipif(find_spec("keras") is not None, reason="Keras is installed; see nox -s light")
@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model"])
def test_what_a_model_needs_is_said(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if not path.suffix:
        path.mkdir()
    (path if path.suffix else path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(EnvironmentFailure, match=r"pip install 'netvlad-keras\[keras\]'"):
        open_model(path)


def test_damaged_metadata_are_refused(make_onnx: MakeOnnx) -> None:
    with pytest.raises(ModelFileError, match="metadata"):
        open_model(make_onnx(metadata={"spec": "{}"}))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Contract(dimension=8)),
        ({"layout": "NCHW"}, Contract(layout="NCHW", dimension=8)),
        ({"dtype": onnx.TensorProto.UINT8}, Contract(dtype="uint8", dimension=8)),
        ({"sizes": (2, 24, 32)}, Contract(batch=2, size=(24, 32), dimension=8)),
        ({"metadata": WHITE}, Contract(dimension=8, whitened=True)),
        ({"metadata": NOT_WHITE}, Contract(dimension=8, whitened=False)),
    ],
)
def test_the_contract_is_read_from_the_file(
    options: dict[str, Any], expected: Contract, make_onnx: MakeOnnx
) -> None:
    assert open_model(make_onnx(**options)).contract == expected


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "NCHW"},
        {"dtype": onnx.TensorProto.UINT8},
        {"dtype": onnx.TensorProto.FLOAT16},
        {"sizes": (3, 24, 32)},
        {"sizes": (7, 24, 32), "layout": "NCHW", "dtype": onnx.TensorProto.UINT8},
    ],
)
def test_every_contract_gives_the_same_descriptors(
    options: dict[str, Any], make_onnx: MakeOnnx, images: Any
) -> None:
    batch = images(5, 24, 32)
    expected = open_model(make_onnx()).describe(batch)
    found = open_model(make_onnx(**options)).describe(batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "threads"), [(("batch", "height", "width"), 1), ((1, 24, 32), 1), ((2, 24, 32), 0)]
)
def test_images_that_come_together_are_computed_by_all_processors(
    sizes: tuple[Any, ...], threads: int, make_onnx: MakeOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that comes alone has one thread, and the others have other images."""
    asked = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: Any, providers: Any) -> None:
            asked.append(options.intra_op_num_threads)
            super().__init__(path, options, providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert open_model(make_onnx(sizes=sizes)).alone == (threads == 1)
    assert asked[-1] == threads


# Images.


def test_a_folder_is_searched_and_a_file_counts_once(photographs: Path) -> None:
    (photographs / "notes.txt").write_text("no image")
    (photographs / "below").mkdir()
    Image.new("RGB", (8, 8)).save(photographs / "below" / "x.JPG")
    found = listed([photographs, photographs / "00.png"])
    assert len(found) == 12
    assert photographs / "below" / "x.JPG" in found
    assert [p.as_posix() for p in found] == sorted(p.as_posix() for p in found)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_nothing_to_describe_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RetrievalError, match=name):
        listed([tmp_path / name])


def test_links_are_followed_and_a_link_to_nothing_is_no_loss(
    photographs: Path, tmp_path: Path, make_onnx: MakeOnnx
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(photographs)
    (root / "again").symlink_to(root)  # in circles
    (root / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "pipe.jpg")  # who reads it waits for ever
    found = listed([root])
    assert len(found) == 12
    assert root / "linked" / "00.png" in found
    made = describe(opened(make_onnx()), found, tmp_path / "o.npz")
    assert list(made.faults) == [(root / "gone.jpg").as_posix()]
    assert made.new == 11


def test_a_model_is_its_data_too(make_onnx: MakeOnnx) -> None:
    net = make_onnx()
    before = opened(net).about["sha256"]
    data = net.with_name(f"{net.name}.data")
    data.write_bytes(b"weights")
    first = opened(net).about["sha256"]
    data.write_bytes(b"others")
    assert len({before, first, opened(net).about["sha256"]}) == 3


@pytest.mark.parametrize("jobs", [1, 3])
def test_images_come_in_order_whatever_the_threads(jobs: int, photographs: Path) -> None:
    (photographs / "05.png").write_bytes(b"no image")
    paths = listed([photographs])
    found = list(decoded(paths, Resize(size=(8, 9)), jobs))
    assert [path for path, _ in found] == list(paths)
    for path, image in found:
        if path.name == "05.png":
            assert isinstance(image, ImageError)
        else:
            np.testing.assert_array_equal(image, load_image(path, size=(8, 9)))


def _recording(sizes: list[tuple[int, ...]]) -> Engine:
    def run(images: NDArray[Any]) -> NDArray[Any]:
        sizes.append(images.shape)
        return np.ones((len(images), 4), np.float32)

    return Engine(Contract(dimension=4), run)


def test_images_of_one_size_go_in_together(photographs: Path) -> None:
    batches: list[tuple[int, ...]] = []
    model = Model(_recording(batches), {}, batch=3)
    assert len(list(described(model, listed([photographs])))) == 11
    assert sorted(batches) == [
        (1, 17, 23, 3),
        (1, 32, 24, 3),
        (3, 24, 32, 3),
        (3, 24, 32, 3),
        (3, 32, 24, 3),
    ]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images that were decoded."""
    seen: list[Any] = []

    def load(path: Any, **options: Any) -> Any:
        seen.append(path)
        return load_image(path, **options)

    monkeypatch.setattr(decoding, "load_image", load)
    return seen


def test_few_images_wait_where_no_two_have_one_size(tmp_path: Path, loaded: list[Any]) -> None:
    for width in range(8, 48):
        Image.new("RGB", (width, 8)).save(tmp_path / f"{width}.png")
    batches: list[tuple[int, ...]] = []
    model = Model(_recording(batches), {}, batch=2, jobs=1)
    waiting = described(model, listed([tmp_path]))
    next(waiting)
    assert batches == [(1, 8, 10, 3)]  # by path: 10.png
    assert 16 <= len(loaded) <= 19  # that many wait, and two are decoded ahead
    assert len(list(waiting)) == 39


@pytest.mark.parametrize("alone", [False, True])
def test_few_images_are_ahead_of_who_takes_them(
    alone: bool, photographs: Path, loaded: list[Any]
) -> None:
    """Of eleven; two of them are described at a time, and one thread decodes."""
    batches: list[tuple[int, ...]] = []
    engine = _recording(batches)
    model = Model(replace(engine, alone=alone), {}, batch=2, jobs=1)
    waiting = described(model, listed([photographs]))
    next(waiting)
    time.sleep(0.3)  # threads that do more than they should do it now
    assert len(loaded) <= 7
    assert len(batches) <= 4
    assert len(list(waiting)) == 10


def test_long_descriptors_do_not_wait_for_a_full_shard(photographs: Path, tmp_path: Path) -> None:
    def run(images: NDArray[Any]) -> NDArray[Any]:
        return np.ones((len(images), 1 << 20), np.float32)  # 4 MB

    parts: list[int] = []

    class Counting:
        def start(self, total: int, done: int) -> None: ...

        def image(self, path: str, fault: str) -> None:
            parts.append(len(list((tmp_path / "o.npz.parts").glob("*.npz"))))

    model = Model(Engine(Contract(), run), {}, batch=1)
    describe(model, listed([photographs])[:6], tmp_path / "o.npz", Counting())
    assert parts == [0, 0, 1, 1, 2, 2]


# Descriptors.


def _vectors(path: Path) -> dict[str, NDArray[np.float32]]:
    found = results.read(path)
    return {Path(name).name: row for name, row in zip(found.paths, found.vectors, strict=True)}


def test_each_image_gets_its_own_descriptor(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    model = opened(make_onnx(), batch=4)
    paths = listed([photographs])
    made = describe(model, paths, tmp_path / "out.npz")
    assert (made.new, made.before, made.faults) == (11, 0, {})
    found = results.read(tmp_path / "out.npz")
    assert found.paths == tuple(path.as_posix() for path in paths)
    expected = [model.engine.describe(load_image(path)[None])[0] for path in paths]
    np.testing.assert_array_equal(found.vectors, expected)
    assert found.about["model"] == "net.onnx"
    assert found.about["dimension"] == 8
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.npz"]


def test_what_cannot_be_described_is_named_and_left_out(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    (photographs / "03.png").write_bytes(b"no image")
    Image.new("RGB", (32, 24)).save(photographs / "04.png")  # black: 0/0 in this net
    made = describe(opened(make_onnx()), listed([photographs]), tmp_path / "out.npz")
    reasons = {Path(path).name: reason for path, reason in made.faults.items()}
    assert reasons == {
        "03.png": "not an image file that Pillow can identify",
        "04.png": "its descriptor holds NaN or infinity",
    }
    assert (made.new, made.before) == (9, 0)
    assert not {"03.png", "04.png"} & _vectors(tmp_path / "out.npz").keys()
    assert dict(results.read(tmp_path / "out.npz").about["faults"]) == made.faults


def test_an_image_of_the_wrong_size_is_left_out_of_a_model_of_fixed_size(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    model = opened(make_onnx(sizes=(2, 24, 32)))
    made = describe(model, listed([photographs]), tmp_path / "out.npz")
    assert len(made.faults) == 5
    assert "32×24 pixels; the model takes 24×32 alone" in made.faults.values()
    resized = opened(make_onnx(sizes=(2, 24, 32)), resize=Resize(size=(24, 32)))
    assert not describe(resized, listed([photographs]), tmp_path / "all.npz").faults


def test_one_image_that_the_model_refuses_does_not_take_the_others_with_it(
    photographs: Path, tmp_path: Path
) -> None:
    bad = load_image(photographs / "01.png")

    def run(images: NDArray[Any]) -> NDArray[Any]:
        if any(np.array_equal(image, bad) for image in images):
            raise RuntimeError("not this one")
        return np.ones((len(images), 4), np.float32)

    made = describe(Model(Engine(Contract(), run), {}), listed([photographs]), tmp_path / "out.npz")
    assert [Path(path).name for path in made.faults] == ["01.png"]
    assert made.new == 10


def test_nothing_described_leaves_nothing(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(RetrievalError, match=r"none of 1 images .*a\.png"):
        describe(opened(make_onnx()), [tmp_path / "a.png"], tmp_path / "out.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# Cut.


@pytest.mark.parametrize(
    ("metadata", "dimension", "said"),
    [
        (NOT_WHITE, 4, "has no whitening"),
        ({}, 4, "does not say whether"),
        (WHITE, 9, "they have 8"),
    ],
)
def test_a_crop_is_refused_with_the_reason(
    metadata: dict[str, str], dimension: int, said: str, make_onnx: MakeOnnx
) -> None:
    with pytest.raises(CropError, match=said) as caught:
        opened(make_onnx(metadata=metadata), dimension=dimension)
    assert caught.value.dimension == dimension


def test_a_crop_is_of_length_one_again(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    net, paths = make_onnx(metadata=WHITE), listed([photographs])
    describe(opened(net), paths, tmp_path / "whole.npz")
    describe(opened(net, dimension=3), paths, tmp_path / "cut.npz")
    whole, cut = (results.read(tmp_path / f"{name}.npz") for name in ("whole", "cut"))
    assert cut.vectors.shape == (11, 3)
    assert cut.about["dimension"] == 3
    np.testing.assert_allclose(np.linalg.norm(cut.vectors, axis=1), 1, atol=1e-6)
    first = whole.vectors[:, :3]
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    np.testing.assert_allclose(cut.vectors * lengths, first, atol=1e-6)


def test_a_crop_by_hand() -> None:
    row = np.array([[0.6, 0.0, 0.8], [0.0, 0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(cropped(row, 2), np.array([[1, 0], [0, 0]], np.float32))
    assert cropped(row, 3) is row


# Kill and resume.


def _command(net: Path, photographs: Path, output: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "netvlad_keras", "describe", str(photographs)]
    return [*base, "--model", str(net), "--output", str(output), "--json", *more]


def test_a_killed_run_goes_on_and_no_image_is_twice_or_lost(
    make_onnx: MakeOnnx, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for number in range(60):
        height, width = (160, 208) if number % 2 else (208, 160)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    net = make_onnx(work=24)
    command = _command(net, folder, tmp_path / "out.npz", "--shard", "4", "--batch", "2")
    manifest = tmp_path / "out.npz.parts" / "_manifest.json"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            if manifest.exists() and len(json.loads(manifest.read_text())["shards"]) >= 2:
                break
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it had ended before it could be killed"
    assert not (tmp_path / "out.npz").exists()
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(finished.stdout)
    assert said["described_before"] >= 8
    assert said["described_before"] % 4 == 0
    assert said["described"] + said["described_before"] == 60
    whole = tmp_path / "whole.npz"
    describe(opened(net, batch=2), listed([folder]), whole, shard=60)
    assert (tmp_path / "out.npz").read_bytes() == whole.read_bytes()
    assert not manifest.parent.exists()


class _Stop(Exception):
    pass


class _Stopping:
    """Progress that ends the run after some images, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.seen: list[str] = []

    def start(self, total: int, done: int) -> None: ...

    def image(self, path: str, fault: str) -> None:
        self.seen.append(Path(path).name)
        self.left -= 1
        if not self.left:
            raise _Stop


def _stopped(model: Model, paths: Sequence[Path], output: Path, *, after: int, shard: int) -> None:
    """A run that has told of some images when it ends."""
    with pytest.raises(_Stop):
        describe(model, paths, output, _Stopping(after), shard=shard)


def test_what_no_manifest_names_is_done_again(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    model, paths, output = opened(make_onnx(), batch=1), listed([photographs]), tmp_path / "o.npz"
    _stopped(model, paths, output, after=7, shard=3)
    parts = tmp_path / "o.npz.parts"
    assert sorted(p.name for p in parts.glob("*.npz")) == ["000000.npz", "000001.npz"]
    (parts / "000002.npz").write_bytes(b"written, and killed before the manifest")
    rest = _Stopping(99)
    made = describe(model, paths, output, rest, shard=3)
    assert rest.seen == ["06.png", "07.png", "08.png", "09.png", "10.png"]
    assert (made.new, made.before) == (5, 6)
    assert len(_vectors(output)) == 11


def test_an_image_that_was_broken_is_tried_again(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    model, paths, output = opened(make_onnx(), batch=1), listed([photographs]), tmp_path / "o.npz"
    good = (photographs / "00.png").read_bytes()
    (photographs / "00.png").write_bytes(b"half copied")
    _stopped(model, paths, output, after=7, shard=2)
    (photographs / "00.png").write_bytes(good)
    assert not describe(model, paths, output).faults
    assert "00.png" in _vectors(output)


def test_parts_of_another_making_are_refused_until_told(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    paths, output = listed([photographs]), tmp_path / "o.npz"
    _stopped(opened(make_onnx(), batch=1), paths, output, after=7, shard=2)
    smaller = opened(make_onnx(), resize=Resize(longer_side=16))
    with pytest.raises(DescriptorsError, match="another resize"):
        describe(smaller, paths, output)
    assert describe(smaller, paths, output, restart=True).new == 11


@pytest.mark.parametrize("damaged", ["_manifest.json", "000000.npz"])
def test_damaged_parts_are_refused(
    damaged: str, make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    model, paths, output = opened(make_onnx(), batch=1), listed([photographs]), tmp_path / "o.npz"
    _stopped(model, paths, output, after=7, shard=2)
    (tmp_path / "o.npz.parts" / damaged).write_bytes(b"{")
    with pytest.raises(DescriptorsError, match=damaged):
        describe(model, paths, output)
    assert describe(model, paths, output, restart=True).new == 11


def test_a_part_that_changed_on_the_disk_is_refused(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    """Its numbers are others: the checksum says so."""
    model, paths, output = opened(make_onnx(), batch=1), listed([photographs]), tmp_path / "o.npz"
    _stopped(model, paths, output, after=7, shard=3)
    part = tmp_path / "o.npz.parts" / "000000.npz"
    content, row = part.read_bytes(), results.read(part).vectors[1].tobytes()
    assert content.count(row) == 1
    part.write_bytes(content.replace(row, row[::-1]))
    with pytest.raises(DescriptorsError, match=r"000000.npz: is damaged: [\s\S]*--restart"):
        describe(model, paths, output)


def test_a_part_is_of_the_images_as_they_are(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    os.utime(photographs / "04.png", (4e9, 4e9))  # a clock that was wrong, in 2096
    model, paths, output = opened(make_onnx(), batch=1), listed([photographs]), tmp_path / "o.npz"
    _stopped(model, paths, output, after=7, shard=3)
    (photographs / "01.png").write_bytes((photographs / "08.png").read_bytes())
    made = describe(model, paths, output)
    assert (made.new, made.before) == (6, 5)
    found = _vectors(output)
    np.testing.assert_array_equal(found["01.png"], found["08.png"])


def test_what_lies_beside_the_parts_stays(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    parts = tmp_path / "o.npz.parts"
    (parts / "below").mkdir(parents=True)
    (parts / "mine.txt").write_text("mine")
    describe(opened(make_onnx()), listed([photographs]), tmp_path / "o.npz")
    assert sorted(path.name for path in parts.iterdir()) == [".lock", "below", "mine.txt"]


def test_parts_of_which_none_was_finished_bind_nobody(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    paths, output = listed([photographs]), tmp_path / "o.npz"
    _stopped(opened(make_onnx(), batch=1), paths, output, after=2, shard=3)
    assert describe(opened(make_onnx(), resize=Resize(size=(8, 9))), paths, output).new == 11


def test_a_kill_at_the_end_leaves_nothing_to_miss(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the parts are removed; the file is complete by then."""
    model, paths, output = opened(make_onnx()), listed([photographs]), tmp_path / "o.npz"
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.suffix == ".npz":
            raise _Stop

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(_Stop):
        describe(model, paths, output, shard=3)
    monkeypatch.undo()
    before = output.read_bytes()
    assert describe(model, paths, output).new == 11
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.npz", "photographs"]


def test_a_folder_in_the_way_is_said_before_anything_is_described(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "o.npz").mkdir()
    seen = _Stopping(1)
    with pytest.raises(DescriptorsError, match=r"o\.npz: is a folder"):
        describe(opened(make_onnx()), listed([photographs]), tmp_path / "o.npz", seen)
    assert not seen.seen


def test_one_run_at_a_time(make_onnx: MakeOnnx, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "o.npz.parts").mkdir()
    with (
        FileLock(tmp_path / "o.npz.parts" / ".lock"),
        pytest.raises(EnvironmentFailure, match="another run"),
    ):
        describe(opened(make_onnx()), listed([photographs]), tmp_path / "o.npz")


# Files.


@pytest.mark.parametrize("suffix", [".npz", pytest.param(".parquet", marks=needs_pyarrow)])
@pytest.mark.parametrize("shard", [1, 4, 99])
def test_a_file_does_not_depend_on_its_shards(
    suffix: str, shard: int, make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    model, paths = opened(make_onnx()), listed([photographs])
    describe(model, paths, tmp_path / f"a{suffix}", shard=shard)
    describe(model, paths[::-1], tmp_path / f"b{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@needs_pyarrow
def test_parquet_holds_what_npz_holds(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet

    for suffix in results.SUFFIXES:
        describe(opened(make_onnx()), listed([photographs]), tmp_path / f"o{suffix}")
    npz, parquet = (results.read(tmp_path / f"o{suffix}") for suffix in results.SUFFIXES)
    assert parquet.paths == npz.paths
    assert parquet.about == npz.about
    np.testing.assert_array_equal(parquet.vectors, npz.vectors)
    table = pyarrow.parquet.read_table(tmp_path / "o.parquet")
    assert str(table.schema.field("descriptor").type) == "fixed_size_list<element: float>[8]"


def test_numpy_alone_reads_an_npz(make_onnx: MakeOnnx, photographs: Path, tmp_path: Path) -> None:
    describe(opened(make_onnx()), listed([photographs]), tmp_path / "o.npz")
    with np.load(tmp_path / "o.npz", allow_pickle=False) as file:
        assert file["paths"].shape == (11,)
        assert file["descriptors"].shape == (11, 8)
        np.testing.assert_array_equal(file["descriptors"], results.read(tmp_path / "o.npz").vectors)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"paths": ["a"]}, "no file of descriptors"),
        ({"paths": ["a"], "descriptors": [[1.0], [2.0]]}, "do not match"),
        ({"paths": ["a", "a"], "descriptors": [[1.0], [2.0]]}, "do not match"),
        ({"paths": ["a"], "descriptors": [[np.nan]]}, "NaN"),
        ({"paths": ["a\0b"], "descriptors": [[1.0]]}, "no name of a file"),
        ({"paths": ["a"], "descriptors": [[1.0]], "about": "[1]"}, "not in this project's form"),
        ({"paths": ["a"], "descriptors": [[1.0]], "about": "null"}, "not in this project's form"),
        (
            {"paths": ["a"], "descriptors": [[1.0]], "about": '{"faults": "abc"}'},
            "not in this project's form",
        ),
        ({"paths": np.empty(0, str), "descriptors": np.empty((0, 4))}, "holds no descriptors"),
        ({"paths": np.array(["a", None]), "descriptors": [[1.0], [2.0]]}, "no file of descriptors"),
    ],
)
def test_a_damaged_file_is_refused(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DescriptorsError, match=said):
        results.read(tmp_path / "x.npz")


@needs_pyarrow
@pytest.mark.parametrize("paths", [[1, 2], ["a", None], [], {"name": ["a"]}])
def test_a_table_without_paths_is_refused(paths: Any, tmp_path: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.table(paths if isinstance(paths, dict) else {"path": paths})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(
        DescriptorsError, match=r"x\.parquet: (is no file of paths|names no images)"
    ):
        listed([tmp_path / "x.parquet"])


@needs_pyarrow
@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "has no _manifest.json"),
        ({"complete": False, "shards": []}, "is not finished: images are missing"),
        ({"complete": True}, "no file of descriptors"),
    ],
)
def test_a_folder_that_is_not_finished_is_refused(
    manifest: dict[str, Any] | None, said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "x.parquet"
    folder.mkdir()
    if manifest:
        (folder / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DescriptorsError, match=said):
        results.read(folder)


@pytest.mark.parametrize("name", ["absent.npz", "descriptors.csv"])
def test_no_file_of_descriptors(name: str, tmp_path: Path) -> None:
    with pytest.raises(DescriptorsError, match=name):
        results.read(tmp_path / name)


def test_a_file_is_sorted_by_path(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", paths=["b", "c", "a"], descriptors=[[2.0], [3.0], [1.0]])
    found = results.read(tmp_path / "x.npz")
    assert found.paths == ("a", "b", "c")
    np.testing.assert_array_equal(found.vectors, [[1], [2], [3]])
    assert found.about == {}
