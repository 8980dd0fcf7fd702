"""Describing on a Ray cluster of two machines of one processor each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netvlad_keras import results
from netvlad_keras.cluster import Cluster, Settings, describe
from netvlad_keras.decoding import listed

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")

MakeOnnx = Callable[..., Path]


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """The cluster and its second machine, which the last test removes."""
    from ray.cluster_utils import Cluster as Machines

    made = Machines(initialize_head=True, head_node_args={"num_cpus": 1})
    second = made.add_node(num_cpus=1)
    ray.init(made.address, log_to_driver=False, logging_level="ERROR")
    yield made, second
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(5)
    (tmp_path / "photographs").mkdir()
    for number in range(24):
        pixels = random.integers(0, 256, (80, 104, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{number:02}.png")
    return list(listed([tmp_path / "photographs"]))


@pytest.mark.parametrize("workers", [None, 1, 9])
def test_no_worker_needs_more_than_a_machine_has(
    workers: int | None, make_onnx: MakeOnnx, photographs: list[Path], machines: Any, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    made = describe(Settings(make_onnx()), Cluster(workers=workers), photographs, output)
    assert made.new == 24
    assert len(results.read(output).paths) == 24


def test_a_lost_machine_s_images_are_described_on_another(
    make_onnx: MakeOnnx, photographs: list[Path], machines: Any, tmp_path: Path
) -> None:
    made, second = machines
    told: list[str] = []

    class Remove:
        """The second machine goes at the first image."""

        def start(self, total: int, done: int) -> None: ...

        def image(self, path: str, fault: str) -> None:
            told.append(path)
            if len(told) == 1:
                made.remove_node(second, allow_graceful=False)

    output = tmp_path / "out.parquet"
    net = make_onnx(work=60)
    done = describe(Settings(net), Cluster(workers=2), photographs, output, Remove(), shard=2)
    assert done.new == 24
    assert sorted(told) == [path.as_posix() for path in photographs]
    assert len(results.read(output).paths) == 24
