"""Describing on a local Ray cluster of two workers: the same descriptors as without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from netvlad_keras import results
from netvlad_keras.__main__ import main
from netvlad_keras.cluster import Cluster, Settings, describe
from netvlad_keras.decoding import listed
from netvlad_keras.describe import describe as describe_here
from netvlad_keras.describer import opened
from netvlad_keras.errors import DescriptorsError, EnvironmentFailure, RetrievalError
from netvlad_keras.workers import divided

ray = pytest.importorskip("ray")
parquet = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).resolve().parents[2]
MakeOnnx = Callable[..., Path]
TWO = Cluster(workers=2)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of two sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(5)
    for number in range(40):
        height, width = (80, 104) if number % 3 else (104, 80)
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def assert_same(output: Path, net: Path, folder: Path, whole: Path, **options: Any) -> None:
    """What the local engine gives, to the bit."""
    describe_here(opened(net, **options), listed([folder]), whole)
    found, right = results.read(output), results.read(whole)
    assert found.paths == right.paths
    np.testing.assert_array_equal(found.vectors, right.vectors, strict=True)
    assert found.about == right.about


class Seen:
    """Progress that is written down; `after` is called once, at the first image."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self.images: list[str] = []
        self.started = (0, 0)
        self._after = after

    def start(self, total: int, done: int) -> None:
        self.started = (total, done)

    def image(self, path: str, fault: str) -> None:
        self.images.append(path)
        if len(self.images) == 1:
            self._after()


def test_the_descriptors_are_the_local_engine_s(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    net, output = make_onnx(), tmp_path / "out.parquet"
    seen = Seen()
    made = describe(Settings(net), TWO, listed([photographs]), output, seen, shard=7)
    assert (made.new, made.before, made.faults) == (40, 0, {})
    assert seen.started == (40, 0)
    assert len(seen.images) == len(set(seen.images)) == 40
    assert_same(output, net, photographs, tmp_path / "whole.npz")
    # Any other program reads the folder as one table.
    assert parquet.read_table(output)["path"].to_pylist() != []
    assert len(parquet.read_table(output)) == 40


def test_a_lost_worker_s_images_are_described_by_another(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill() -> None:
        workers = [p for p in psutil.Process().children(recursive=True) if _is_describer(p)]
        assert workers  # the other one may still be on its way
        killed.append(workers[0].pid)
        workers[0].kill()

    net, output = make_onnx(work=60), tmp_path / "out.parquet"
    seen = Seen(kill)
    made = describe(Settings(net), TWO, listed([photographs]), output, seen, shard=2)
    assert killed
    assert made.new == 40
    assert sorted(seen.images) == [path.as_posix() for path in listed([photographs])]
    assert_same(output, net, photographs, tmp_path / "whole.npz")


def _is_describer(process: psutil.Process) -> bool:
    command = " ".join(process.cmdline())
    return command.startswith("ray::") and "Describer" in command


class Stop(Exception):
    pass


def test_a_stopped_run_goes_on(make_onnx: MakeOnnx, photographs: Path, tmp_path: Path) -> None:
    net, output = make_onnx(), tmp_path / "out.parquet"
    paths = listed([photographs])

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        describe(Settings(net), TWO, paths, output, Seen(stop), shard=5)
    with pytest.raises(DescriptorsError, match=r"is not finished[\s\S]* goes on"):
        results.read(output)
    left = [output / f"{'0' * 16}.parquet", output / f".{'0' * 16}.parquet.{'0' * 8}.part"]
    for path in left:
        path.write_bytes(b"written before the manifest was, or killed while it was written")
    (output / "mine.parquet").write_bytes(b"somebody's")
    seen = Seen()
    made = describe(Settings(net), TWO, paths, output, seen, shard=5)
    assert made.before == 5
    assert made.new == 35
    assert not any(path.exists() for path in left)
    (output / "mine.parquet").unlink()  # it was left alone
    assert_same(output, net, photographs, tmp_path / "whole.npz")
    again = describe(Settings(net), TWO, paths, output, shard=5)
    assert (again.new, again.before) == (0, 40)
    other = Settings(make_onnx(work=2))
    with pytest.raises(DescriptorsError, match="another sha256"):
        describe(other, TWO, paths, output)
    anew = describe(other, TWO, paths, output, restart=True)
    assert anew.new == 40
    assert_same(output, other.model, photographs, tmp_path / "other.npz")
    assert len(parquet.read_table(output)) == 40


def test_what_is_not_asked_for_any_more_goes(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    settings, output = Settings(make_onnx()), tmp_path / "out.parquet"
    paths = listed([photographs])
    describe(settings, TWO, paths[:20], output, shard=4)
    made = describe(settings, TWO, paths[10:], output, shard=4)
    assert (made.new, made.before) == (22, 8)  # the shard of 8 to 11 is made again
    found = results.read(output)
    assert found.paths == tuple(path.as_posix() for path in paths[10:])
    assert len(list(output.glob("*.parquet"))) == len(parquet.ParquetDataset(output).files)
    # A run that cannot describe any of its images leaves the result of the one before.
    with pytest.raises(RetrievalError, match="none of 1"):
        describe(settings, TWO, [tmp_path / "absent.png"], output)
    assert results.read(output).paths == found.paths


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"PAR1"), Path.unlink])
def test_a_damaged_shard_is_said(
    spoil: Callable[[Path], Any], make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    settings, output = Settings(make_onnx()), tmp_path / "out.parquet"
    paths = listed([photographs])[:6]
    describe(settings, TWO, paths, output, shard=2)
    spoil(next(output.glob("*.parquet")))
    with pytest.raises(DescriptorsError, match=r"is damaged[\s\S]*--restart begins anew"):
        describe(settings, TWO, paths, output)
    assert describe(settings, TWO, paths, output, restart=True).new == 6


def test_a_restart_that_comes_to_nothing_leaves_what_was_there(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    output, net = tmp_path / "out.parquet", make_onnx()
    paths = listed([photographs])[:6]
    describe(Settings(net), TWO, paths, output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    other = Settings(make_onnx(work=2))
    with pytest.raises(RetrievalError, match="none of 1"):
        describe(other, TWO, [tmp_path / "absent.png"], output, restart=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert describe(Settings(net), TWO, paths, output).before == 6


def test_a_folder_in_which_nothing_was_begun(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    """A kill left the lock alone, or a manifest without shards: any settings may go on."""
    paths, about = listed([photographs])[:2], {"model": "another.onnx"}
    for number, manifest in enumerate((None, {"about": about, "shards": []})):
        output = tmp_path / f"{number}.parquet"
        output.mkdir()
        (output / ".lock").touch()
        if manifest:
            (output / "_manifest.json").write_text(json.dumps(manifest))
        assert describe(Settings(make_onnx()), TWO, paths, output).new == 2


def test_an_image_that_changed_is_described_again(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / path.name for path in listed([photographs])[:6]]
    for path in paths:
        path.write_bytes((photographs / path.name).read_bytes())
    settings, output = Settings(make_onnx()), tmp_path / "out.parquet"
    describe(settings, TWO, paths, output, shard=1)
    paths[3].write_bytes((photographs / "33.png").read_bytes())
    made = describe(settings, TWO, paths, output, shard=1)
    assert (made.new, made.before) == (1, 5)
    describe_here(opened(settings.model), paths, tmp_path / "whole.npz")
    found, right = results.read(output), results.read(tmp_path / "whole.npz")
    np.testing.assert_array_equal(found.vectors, right.vectors)


def test_what_no_worker_expects_is_said(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    settings = Settings(make_onnx(), jobs=-1)
    with pytest.raises(EnvironmentFailure, match="a worker failed: ValueError: max_workers"):
        describe(settings, TWO, listed([photographs])[:2], tmp_path / "out.parquet")


@pytest.mark.parametrize(
    ("machines", "workers", "expected"),
    [
        ([16], None, (4, 4)),
        ([6], None, (1, 6)),
        ([2], None, (1, 2)),
        ([1, 1], None, (2, 1)),
        ([8, 2], None, (5, 2)),
        ([16, 16, 1], None, (10, 3)),
        ([16], 3, (3, 5)),
        ([8, 8], 3, (3, 4)),
        ([1, 1], 1, (1, 1)),
        ([2, 3], 9, (5, 1)),
    ],
)
def test_processors_are_divided_so_that_all_workers_find_room(
    machines: list[int], workers: int | None, expected: tuple[int, int]
) -> None:
    count, threads = divided(machines, workers)
    assert (count, threads) == expected
    assert sum(processors // threads for processors in machines) >= count


def test_a_cluster_without_processors() -> None:
    with pytest.raises(EnvironmentFailure, match="no processors"):
        divided([], None)


def test_why_a_worker_cannot_do_it_is_said(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    """The model is gone before a worker opens it; the folder that was begun goes, too."""
    net, output = make_onnx(), tmp_path / "out.parquet"

    class Remove(Seen):
        def start(self, total: int, done: int) -> None:
            net.unlink()

    with pytest.raises(EnvironmentFailure) as caught:
        describe(Settings(net), TWO, listed([photographs]), output, Remove())
    assert str(caught.value) == f"{net}: there is no such file"
    assert not output.exists()


def test_unreadable_images_are_named_and_tried_again(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    paths, output = [*listed([photographs])[:6], broken], tmp_path / "out.parquet"
    made = describe(Settings(make_onnx()), TWO, paths, output, shard=3)
    assert made.new == 6
    assert list(made.faults) == [broken.as_posix()]
    assert results.read(output).about["faults"] == made.faults
    Image.fromarray(np.full((40, 50, 3), 99, np.uint8)).save(broken)
    again = describe(Settings(make_onnx()), TWO, paths, output, shard=3)
    assert (again.new, again.before, again.faults) == (1, 6, {})
    with pytest.raises(RetrievalError, match="none of 1 images could be described"):
        describe(Settings(make_onnx()), TWO, [tmp_path / "absent.png"], tmp_path / "no.parquet")
    assert not (tmp_path / "no.parquet").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("a file"), "is there already"),
        (lambda path: (path.mkdir(), (path / "mine.txt").touch()), "is there already"),
    ],
)
def test_what_is_there_is_left_alone(
    make: Callable[[Path], Any], said: str, make_onnx: MakeOnnx, photographs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    make(output)
    with pytest.raises(DescriptorsError, match=said):
        describe(Settings(make_onnx()), TWO, listed([photographs]), output)
    if output.is_dir():
        assert [path.name for path in output.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_said(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder stands where a shard goes: the workers' own error comes through."""
    paths, output = list(listed([photographs])[:2]), tmp_path / "out.parquet"
    settings = Settings(make_onnx())
    describe(settings, TWO, paths, output)
    for shard in output.glob("*.parquet"):
        shard.unlink()
        shard.mkdir()
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        describe(settings, TWO, paths, output, restart=True)


def test_the_command_takes_a_table_of_paths(
    make_onnx: MakeOnnx, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow

    names = [path.as_posix() for path in listed([photographs])[:9]]
    parquet.write_table(pyarrow.table({"path": names}), tmp_path / "paths.parquet")
    net, output = str(make_onnx()), str(tmp_path / "out.parquet")
    words = ["describe", str(tmp_path / "paths.parquet"), "--model", net, "--output", output]
    assert main([*words, "--engine", "ray", "--workers", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["described"] == 9
    assert main([*words[:-1], str(tmp_path / "here.npz"), "--json"]) == 0
    capsys.readouterr()
    search = ["search", "--database", output, "--query", str(tmp_path / "here.npz"), "--json"]
    assert main([*search, "--no-picture", "--top", "3"]) == 0
    assert [each["query"] for each in json.loads(capsys.readouterr().out)["queries"]] == names
    assert main([*words[:-1], str(tmp_path / "out.npz"), "--engine", "ray"]) == 1
    assert "FOLDER.parquet" in capsys.readouterr().err


def _command(net: Path, photographs: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which is part of no cluster yet."""
    words = ["describe", photographs.name, "--model", str(net), "--output", "o.parquet", *more]
    return subprocess.run(
        [sys.executable, "-m", "netvlad_keras", *words, "--engine", "ray", "--json"],
        cwd=photographs.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("address", "said"), [("nowhere", "Invalid address"), ("127.0.0.1:1", "refused")]
)
def test_an_address_at_which_there_is_no_cluster(
    address: str, said: str, make_onnx: MakeOnnx, photographs: Path
) -> None:
    done = _command(make_onnx(), photographs, "--address", address)
    assert done.returncode == 2
    message = json.loads(done.stdout)["message"]
    assert message.startswith(f"no cluster at {address}: ")
    assert said in message
    assert not (photographs.parent / "o.parquet").exists()


def test_without_a_cluster_one_is_started(make_onnx: MakeOnnx, photographs: Path) -> None:
    """From another folder, under relative names."""
    done = _command(make_onnx(), photographs)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["described"] == 40
    assert not {word for word in ("Dataset", "Actor", "WARNING") if word in done.stderr}
    found = results.read(photographs.parent / "o.parquet")
    assert found.paths[0] == f"{photographs.name}/00.png"
