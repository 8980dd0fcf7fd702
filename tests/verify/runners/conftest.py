"""Fixtures: seeded nets, what the writers make of them, and what the oracle says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.checkpoint import Checkpoint
from converters.mini import SPEC, seeded
from converters.writers.options import WriteOptions
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import Row
from verify import oracle
from verify.formats import open_artifact

Array = NDArray[Any]

#: Groups, a stride, uneven pads, normalisation across channels, and an assignment with a bias.
GROUPED = NetVLADSpec(
    trunk=(
        Row("conv", "conv1", (7, 7), (2, 2), width=8),
        Row("pool", "pool1", (3, 3), (2, 2), (0, 1, 0, 1)),
        Row("relu", "relu1"),
        Row("normalize", "norm1", lrn=(5, 1.0, 2e-5, 0.75)),
        Row("conv", "conv2", (5, 5), pads=(2, 2, 2, 2), groups=2, width=12),
        Row("relu", "relu2"),
        Row("conv", "conv3", (3, 3), pads=(1, 1, 1, 1), width=8),
    ),
    pooling="vladv2",
    intranorm=False,
    clusters=4,
    whitening=0,
    name="grouped",
)
#: No clusters: the largest value of each channel.
MAXIMUM = NetVLADSpec(
    trunk=(Row("conv", "conv1", (3, 3), width=4),),
    pooling="max",
    prel2=False,
    intranorm=False,
    clusters=0,
    whitening=3,
    name="maximum",
)
SPECS = {spec.name: spec for spec in (SPEC, GROUPED, MAXIMUM)}

#: File -> writer, its options.
FILES: Mapping[str, tuple[str, WriteOptions]] = {
    "model.keras": ("keras_archive", WriteOptions()),
    "model.h5": ("keras_h5", WriteOptions()),
    "model.weights.h5": ("keras_weights", WriteOptions()),
    "saved_model": ("savedmodel", WriteOptions()),
    "model.onnx": ("onnx", WriteOptions()),
    "fixed.onnx": (
        "onnx",
        WriteOptions(layout="nchw", input_dtype="uint8", size=(40, 52), batch=2, opset=13),
    ),
}


@dataclass(frozen=True)
class Net:
    """A seeded net and what the oracle makes of `images`."""

    spec: NetVLADSpec
    checkpoint: Checkpoint
    weights: Mapping[str, Array]
    images: Array
    run: Mapping[str, Array]

    def inputs(self, layer: str) -> list[Array]:
        """What a layer reads, as float32."""
        found = next(each for each in self.checkpoint.layers if each.name == layer)
        return [self.run[name].astype(np.float32) for name in found.inputs]

    def replay(self, layer: str) -> Array:
        """The oracle's output of one layer, fed with `inputs`."""
        return oracle.replay(self.checkpoint, layer, self.inputs(layer))


def _net(spec: NetVLADSpec) -> Net:
    from converters.convert import weights_of

    checkpoint = seeded(spec, 2016)
    images = np.random.default_rng(7).integers(0, 256, (2, 40, 52, 3), np.uint8)
    run = oracle.run(checkpoint, images)
    return Net(spec, checkpoint, weights_of(checkpoint, spec), images, run)


@pytest.fixture(scope="session")
def nets() -> dict[str, Net]:
    """`mini`, `grouped` and `maximum`."""
    return {name: _net(spec) for name, spec in SPECS.items()}


@pytest.fixture(scope="session")
def artifact(
    nets: dict[str, Net], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """What makes an artifact once: (net, file of `FILES`) -> path. Not to be changed."""
    pytest.importorskip("tensorflow")
    models: dict[str, Any] = {}
    folders: dict[str, Path] = {}

    def make(name: str, file: str) -> Path:
        net = nets[name]
        if name not in models:
            models[name] = import_module("converters.build").build(net.spec, net.weights)
            folders[name] = tmp_path_factory.mktemp(name)
        path = folders[name] / file
        writer, options = FILES[file]
        if not path.exists():
            import_module(f"converters.writers.{writer}").write(models[name], path, options)
        return path

    return make


@pytest.fixture(scope="session")
def runner(artifact: Callable[[str, str], Path]) -> Callable[[str, str], Any]:
    """What opens an artifact once: (net, file of `FILES`) -> its runner."""
    return cache(lambda name, file: open_artifact(artifact(name, file)))
