"""Every pair of formats: from one into the other and the weights are the same, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters import formats
from converters.checkpoint import MEAN, Checkpoint
from converters.convert import weights_of
from converters.errors import LayerError
from converters.formats import BACK
from converters.mini import SPEC, seeded
from converters.original import original
from converters.recognise import spec_from
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import CAFFE

MAX = replace(SPEC, pooling="max", clusters=0, prel2=False, intranorm=False, name="max")
SMALL_CAFFE = tuple(
    replace(row, width=row.width // 16) if row.kind == "conv" else row for row in CAFFE
)
SPECS = {
    "vlad white": SPEC,
    "vlad": replace(SPEC, whitening=0, name="plain"),
    "vladv2 white": replace(SPEC, pooling="vladv2", name="v2"),
    "max white": MAX,
    "max": replace(MAX, whitening=0, name="m"),
    "avg": replace(MAX, pooling="avg", whitening=0, name="a"),
    "avg white": replace(MAX, pooling="avg", name="aw"),
    "no preL2": replace(SPEC, prel2=False, name="np"),
    "no intra": replace(SPEC, intranorm=False, name="ni"),
    "caffe": NetVLADSpec(SMALL_CAFFE, clusters=4, whitening=8, name="c"),
}
#: Which nets a format can say; `.mat` and Keras say all.
SAYS = {
    "mat": set(SPECS),
    "keras": set(SPECS),
    "tf": {"vlad white", "vlad"},
    "hloc": {"vlad white", "vlad"},
    "pytorch-netvlad": {"vlad white", "vlad", "vladv2 white", "max white", "max", "avg"},
}
NEEDS = {"tf": "tensorflow", "hloc": "safetensors", "pytorch-netvlad": "safetensors"}


def write(net: Checkpoint, format: str, folder: Path) -> Path:
    """The net as a file of a format; TensorFlow writes in this process, which is quicker."""
    if format in NEEDS:
        pytest.importorskip(NEEDS[format], reason="it is needed for this format")
    path = folder / f"{format}{BACK[format].filename}"
    formats.load(BACK[format]).write(net, path)
    return path


def test_the_table_has_every_format() -> None:
    assert SAYS.keys() == {*BACK, "keras"}


def test_the_documented_table_is_this_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
    rows = [[cell.strip(" ¹") for cell in row.split("|")[1:-1]] for row in text.splitlines()]
    (start,) = (i for i, row in enumerate(rows) if row[:1] == ["net"] and "keras" in row)
    names = rows[start][1:]
    found: dict[str, set[str]] = {name: set() for name in names}
    for net, *cells in rows[start + 2 : start + 2 + len(SPECS)]:
        for name, cell in zip(names, cells, strict=True):
            if cell == "yes":
                found[name].add(net)
    assert found == SAYS


@pytest.mark.parametrize("target", BACK)
@pytest.mark.parametrize(
    ("name", "source"), [(name, f) for name in SPECS for f in SAYS if name in SAYS[f]]
)
def test_there_and_back(
    tmp_path: Path, keras_file: Callable[..., None], name: str, source: str, target: str
) -> None:
    net = seeded(SPECS[name], 5)
    if source == "keras":
        spec = spec_from(net)
        keras_file(tmp_path / "net.h5", spec, weights_of(net, spec))
        first = original(formats.read(tmp_path / "net.h5"))
    else:
        first = original(formats.read(write(net, source, tmp_path / "first")))
    if name not in SAYS[target]:
        with pytest.raises(LayerError):
            write(first, target, tmp_path)
        return
    found = original(formats.read(write(first, target, tmp_path)))
    assert [layer.name for layer in found.layers] == [layer.name for layer in net.layers]
    assert [layer.kind for layer in found.layers] == [layer.kind for layer in net.layers]
    assert found.tensors.keys() == net.tensors.keys()
    for key, tensor in net.tensors.items():
        assert found.tensors[key].dtype == tensor.dtype
        assert found.tensors[key].tobytes() == tensor.tobytes(), key
    if "tf" not in (source, target):  # which has no place for a name
        assert found.origin.session == net.origin.session


def test_the_mean_is_the_first_pixel_where_there_is_room_for_one(tmp_path: Path) -> None:
    net = seeded(SPEC, 5)
    image = np.random.default_rng(1).uniform(90, 130, (4, 5, 3)).astype(np.float32)
    path = write(replace(net, tensors={**net.tensors, MEAN: image}), "hloc", tmp_path)
    found = original(formats.read(path)).tensors[MEAN]
    np.testing.assert_array_equal(found, image[:1, :1])
