"""Any net of a Keras file in MatConvNet's vocabulary again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import formats
from converters.checkpoint import MEAN, Checkpoint, Layer, Origin
from converters.errors import ConversionError, MappingError
from converters.mini import mini
from converters.net import net_from, net_weights
from converters.original import original
from converters.recognise import spec_from
from netvlad_keras.net import NetSpec

ONE = {"pad": (1, 1, 1, 1), "stride": (1, 1), "dilate": (1, 1)}
UP = {"crop": (1, 1, 1, 1), "upsample": (2, 2), "numGroups": 1}
CHAIN: tuple[tuple[str, str, dict[str, Any], tuple[tuple[int, ...], ...]], ...] = (
    ("c1", "conv", ONE, ((3, 3, 1, 4), (4,))),
    ("bn1", "bnorm", {"epsilon": 1e-5}, ((4,), (4,), (4, 2))),
    ("r1", "relu", {"leak": 0.1}, ()),
    ("up", "convt", UP, ((4, 4, 2, 4), (2,))),
    ("c2", "conv", ONE, ((3, 3, 2, 1),)),
)


def chain(*, graph: bool = False, mean: bool = False) -> Checkpoint:
    rng = np.random.default_rng(3)
    layers: list[Layer] = []
    tensors: dict[str, Any] = {}
    before = "LR" if graph else "input"
    for name, kind, options, shapes in CHAIN:
        own = {
            f"{name}/weights/{n}": rng.uniform(0.5, 1, shape).astype(np.float32)
            for n, shape in enumerate(shapes)
        }
        tensors |= own
        layers.append(Layer(name, kind, (before,), tuple(own), options, name if graph else ""))
        before = name
    if graph:
        layers.append(Layer("plus", "sum", ("c2", "LR"), (), {}, "output"))
    if mean:
        tensors[MEAN] = np.full((1, 1, 1), 118.5, np.float32)
    return Checkpoint(tensors, tuple(layers), {}, Origin(Path("n.mat"), "matconvnet"))


ThroughKeras = Callable[..., Checkpoint]


@pytest.fixture
def through_keras(tmp_path: Path, keras_file: Callable[..., None]) -> ThroughKeras:
    """What the reader gives of a net's Keras file."""

    def through(net: Checkpoint, *, preprocess: bool = False) -> Checkpoint:
        spec = net_from(net, preprocess=preprocess)
        keras_file(tmp_path / "net.h5", spec, net_weights(net, spec))
        return formats.read(tmp_path / "net.h5")

    return through


@pytest.mark.parametrize("graph", [False, True], ids=["SimpleNN", "DagNN"])
def test_layers_and_weights_are_the_sources_again(through_keras: ThroughKeras, graph: bool) -> None:
    net = chain(graph=graph)
    found = original(through_keras(net))
    assert found.layers == net.layers
    assert found.tensors.keys() == net.tensors.keys()
    for name, tensor in net.tensors.items():
        assert found.tensors[name].tobytes() == tensor.tobytes(), name
    assert found.origin.format == "keras_h5"


def test_a_mean_that_the_net_subtracts_is_averageimage_again(through_keras: ThroughKeras) -> None:
    found = original(through_keras(chain(mean=True), preprocess=True))
    np.testing.assert_array_equal(found.tensors[MEAN], [[[118.5]]])


def test_a_missing_weight_is_named(through_keras: ThroughKeras) -> None:
    read = through_keras(chain())
    tensors = {name: t for name, t in read.tensors.items() if name != "bn1/sigma"}
    with pytest.raises(MappingError) as caught:
        original(replace(read, tensors=tensors))
    assert caught.value.missing == ("bn1/sigma",)


def test_another_net_is_no_netvlad(through_keras: ThroughKeras) -> None:
    with pytest.raises(ConversionError, match="is another net than a NetVLAD"):
        spec_from(through_keras(chain()))


def test_a_net_with_layers_stays_as_it_is() -> None:
    net = mini()
    assert original(net) is net
    assert isinstance(net_from(chain()), NetSpec)
