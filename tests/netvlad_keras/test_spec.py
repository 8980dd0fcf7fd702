"""`NetVLADSpec`: the published names, what follows from them, and the names of layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netvlad_keras.spec import IMAGENET_MEAN, NetVLADSpec, keras_name, source_name
from netvlad_keras.trunks import CAFFE, MINI, VD16, VD19, Row, Trunk, minimum_size, until

ROOT = Path(__file__).resolve().parents[2]

VD16_LAYERS = (
    "conv1_1 relu1_1 conv1_2 pool1 relu1_2 conv2_1 relu2_1 conv2_2 pool2 relu2_2 "
    "conv3_1 relu3_1 conv3_2 relu3_2 conv3_3 pool3 relu3_3 "
    "conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 pool4 relu4_3 "
    "conv5_1 relu5_1 conv5_2 relu5_2 conv5_3"
)
CAFFE_LAYERS = "conv1 pool1 relu1 norm1 conv2 pool2 relu2 norm2 conv3 relu3 conv4 relu4 conv5"
TRUNK = {"vd16": VD16_LAYERS, "caffe": CAFFE_LAYERS}

# (name, layers after the trunk, length of the descriptor)
PUBLISHED = [
    (
        "vd16_pitts30k_conv5_3_vlad_preL2_intra_white",
        "preL2 vlad:core vlad:intranorm postL2 WPCA finalL2",
        4096,
    ),
    (
        "vd16_tokyoTM_conv5_3_vlad_preL2_intra_white",
        "preL2 vlad:core vlad:intranorm postL2 WPCA finalL2",
        4096,
    ),
    (
        "caffe_pitts30k_conv5_vlad_preL2_intra_white",
        "preL2 vlad:core vlad:intranorm postL2 WPCA finalL2",
        4096,
    ),
    (
        "caffe_tokyoTM_conv5_vlad_preL2_intra_white",
        "preL2 vlad:core vlad:intranorm postL2 WPCA finalL2",
        4096,
    ),
    ("vd16_offtheshelf_conv5_3_max", "max:core postL2", 512),
    ("vd16_pitts30k_conv5_3_max", "max:core postL2", 512),
    ("vd16_tokyoTM_conv5_3_max", "max:core postL2", 512),
    ("caffe_offtheshelf_conv5_max", "max:core postL2", 256),
    (
        "vd16_offtheshelf_conv5_3_pitts30k_train_vlad_preL2_intra",
        "preL2 vlad:core vlad:intranorm postL2",
        32768,
    ),
    (
        "vd16_offtheshelf_conv5_3_pitts30k_train_vlad_preL2_intra_white",
        "preL2 vlad:core vlad:intranorm postL2 WPCA finalL2",
        4096,
    ),
    (
        "vd16_offtheshelf_conv5_3_skimage_train_vlad_preL2_intra",
        "preL2 vlad:core vlad:intranorm postL2",
        32768,
    ),
    # the rest of the methods' table
    ("vd16_pitts30k_conv5_3_avg", "avg:core postL2", 512),
    ("caffe_pitts30k_conv5_avg", "avg:core postL2", 256),
    ("vd16_pitts30k_conv5_3_vlad_preL2", "preL2 vlad:core postL2", 32768),
    ("caffe_pitts30k_conv5_vlad_preL2", "preL2 vlad:core postL2", 16384),
    ("vd16_pitts250k_conv5_3_vladv2_preL2", "preL2 vlad:core postL2", 32768),
    (
        "caffe_pitts30k_conv5_vladv2_preL2_intra",
        "preL2 vlad:core vlad:intranorm postL2",
        16384,
    ),
    (
        "vd16_pitts30k_conv5_3_vladv2_preL2_white",
        "preL2 vlad:core postL2 WPCA finalL2",
        4096,
    ),
    ("vd16_pitts30k_conv5_3_max_white", "max:core postL2 WPCA finalL2", 4096),
    ("caffe_pitts30k_conv5_avg_white", "avg:core postL2 WPCA finalL2", 4096),
]
NAMES = [name for name, _, _ in PUBLISHED]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "vd16",
        "vd16_pitts30k_conv5_3",
        "vd16_pitts30k_conv5_3_sum",
        "vd16_pitts30k_conv5_3_vladv3_preL2",
        "vd16_pitts30k_vlad_preL2_intra_white",
        "vd16_conv5_3_vlad_preL2",
        "vd16_pitts30k_conv5_3_vlad_intra_preL2",
        "vd16_pitts30k_conv5_3_vlad_preL2_white_intra",
        "vd16_pitts30k_conv5_3_pitts30k_vlad_preL2",
        "vd16_pitts30k_conv5_3_vlad_preL2_intra_white_more",
        "VD16_pitts30k_conv5_3_VLAD_preL2",
        " vd16_pitts30k_conv5_3_max",
        "vd16_pitts30k_conv5_3_max\n",
        "vd16_pitts30k_conv٥_3_max",
        # a name is also a folder's
        "vd16_../../etc_conv5_3_max",
        "vd16_a/b_conv5_3_max",
        "vd16_pitts30k_conv5_3_../x_train_max",
    ],
)
def test_a_name_outside_the_grammar_is_refused_with_the_grammar(name: str) -> None:
    with pytest.raises(ValueError, match=r"\{netID\}_\{trainset\}_\{layer\}") as caught:
        NetVLADSpec.from_name(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vd99_pitts30k_conv5_3_max", "unknown netID 'vd99'.*vd16, vd19, caffe, places"),
        ("vd16_pitts30k_conv5_max", "no layer 'conv5'; its convolutions are conv1_1, "),
        ("vd16_pitts30k_conv5_4_max", "no layer 'conv5_4'"),
        ("caffe_pitts30k_conv5_3_max", "no layer 'conv5_3'; .*conv4, conv5$"),
        ("vd16_pitts30k_conv5_3_max_intra", "max pooling has no intra-normalisation"),
    ],
)
def test_a_name_of_a_net_that_there_is_not(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetVLADSpec.from_name(name)


@pytest.mark.parametrize(("name", "head", "dimension"), PUBLISHED)
def test_a_published_name_says_which_layers_and_how_long(
    name: str, head: str, dimension: int
) -> None:
    spec = NetVLADSpec.from_name(name)
    layers = [layer for layer, _ in spec.layers]
    assert " ".join(layers) == f"{TRUNK[name.partition('_')[0]]} {head}"
    assert spec.dimension == dimension
    assert spec.feature_width == (512 if name.startswith("vd16") else 256)
    assert spec.clusters == (64 if "vlad" in name else 0)
    assert spec.whitening == (4096 if name.endswith("_white") else 0)
    assert (spec.name, spec.mean) == (name, IMAGENET_MEAN)


def test_the_default_is_the_published_net_of_35_layers() -> None:
    default = NetVLADSpec()
    assert default == NetVLADSpec.from_name("vd16_pitts30k_conv5_3_vlad_preL2_intra_white")
    assert len(default.layers) == 35
    kinds = dict(default.layers)
    assert kinds["pool1"] == "pool"
    assert kinds["preL2"] == kinds["vlad:intranorm"] == "normalize"
    assert kinds["vlad:core"] == "layerVLAD"
    assert kinds["postL2"] == kinds["finalL2"] == "layerWholeL2Normalize"
    assert kinds["WPCA"] == "conv"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vd16_pitts30k_conv5_3_max", "layerTotalMaxPool"),
        ("vd16_pitts30k_conv5_3_avg", "layerTotalAvgPool"),
        ("vd16_pitts30k_conv5_3_vladv2_preL2", "layerVLADv2"),
    ],
)
def test_the_pooling_has_its_class(name: str, kind: str) -> None:
    assert kind in dict(NetVLADSpec.from_name(name).layers).values()


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "vd16_pitts30k_conv5_3_vlad_preL2_intra_white",
            {
                "input/mean": (3,),
                "conv1_1/kernel": (3, 3, 3, 64),
                "conv5_3/kernel": (3, 3, 512, 512),
                "conv5_3/bias": (512,),
                "vlad:core/assignment": (512, 64),
                "vlad:core/centers": (512, 64),
                "WPCA/kernel": (32768, 4096),
                "WPCA/bias": (4096,),
            },
        ),
        (
            "caffe_pitts30k_conv5_vladv2_preL2",
            {
                "conv1/kernel": (11, 11, 3, 96),
                "conv2/kernel": (5, 5, 48, 256),
                "conv3/kernel": (3, 3, 256, 384),
                "conv4/kernel": (3, 3, 192, 384),
                "conv5/kernel": (3, 3, 192, 256),
                "vlad:core/bias": (64,),
            },
        ),
        ("vd16_pitts30k_conv5_3_max_white", {"WPCA/kernel": (512, 4096)}),
    ],
)
def test_weights_have_the_source_s_shapes(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    found = NetVLADSpec.from_name(name).weight_shapes
    assert {key: found[key] for key in shapes} == shapes


def test_weights_are_named_as_many_as_the_checkpoint_has() -> None:
    # netvlad_tf_open's checkpoint holds 31 variables
    assert len(NetVLADSpec().weight_shapes) == 31
    assert "vlad:core/bias" not in NetVLADSpec().weight_shapes
    assert not [name for name in NetVLADSpec.from_name(NAMES[5]).weight_shapes if "core" in name]


def _forward(trunk: Trunk, size: int, axis: int) -> list[int]:
    """Extent after each layer, by the floor formula of vl_nnconv and vl_nnpool."""
    sizes = []
    for row in trunk:
        padded = size + row.pads[2 * axis] + row.pads[2 * axis + 1]
        size = (padded - row.kernel[axis]) // row.stride[axis] + 1 if padded > 0 else 0
        sizes.append(size)
    return sizes


UNEVEN: Trunk = (
    Row("conv", "conv1", (5, 3), (3, 1), (1, 0, 0, 2), width=4),
    Row("pool", "pool1", (3, 4), (2, 3), (0, 1, 1, 0)),
    Row("conv", "conv2", (2, 2), width=4),
)
WIDE: Trunk = (Row("conv", "conv1", (3, 9), pads=(3, 0, 0, 1), width=4),)


@pytest.mark.parametrize(
    ("trunk", "minimum"),
    [
        (VD16, 16),
        (VD19, 16),
        (MINI, 16),
        (CAFFE, 23),
        (until(VD16, "conv3_3"), 4),
        (UNEVEN, 13),
        (WIDE, 8),
    ],
)
def test_the_minimum_size_is_the_smallest_that_every_layer_has_an_output_for(
    trunk: Trunk, minimum: int
) -> None:
    assert minimum_size(trunk) == minimum
    assert NetVLADSpec(trunk=trunk).minimum_size == minimum
    fits = [all(min(_forward(trunk, n, axis)) >= 1 for axis in (0, 1)) for n in range(1, 64)]
    assert fits == [n >= minimum for n in range(1, 64)]


def test_a_trunk_ends_at_the_layer_that_the_name_says() -> None:
    spec = NetVLADSpec.from_name("vd16_offtheshelf_conv4_2_avg")
    assert spec.trunk[-1].name == "conv4_2"
    assert spec.dimension == 512


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trunk": ()}, "end with a convolution"),
        ({"trunk": VD16[:-1]}, "end with a convolution"),
        ({"pooling": "sum"}, "unknown pooling 'sum'"),
        ({"clusters": 0}, "vlad with 0 clusters"),
        ({"pooling": "max"}, "max with 64 clusters"),
        ({"pooling": "avg", "clusters": 0}, "no intra-normalisation"),
        ({"trunk": (*VD16, VD16[-1])}, "two layers of one name: conv5_3"),
        ({"trunk": (replace(VD16[0], name="postL2"),)}, "two layers of one name: postL2"),
        ({"trunk": (replace(VD16[0], name="input"),)}, "two layers of one name: input"),
    ],
)
def test_a_spec_that_no_net_can_have_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetVLADSpec(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("dimension", [0, -1, 4097])
def test_no_more_can_be_kept_than_the_whitening_gives(dimension: int) -> None:
    with pytest.raises(ValueError, match=f"cannot keep {dimension} of 4096"):
        NetVLADSpec().cropped(dimension)


def test_only_a_white_net_can_be_cropped() -> None:
    with pytest.raises(ValueError, match="only a net with whitening"):
        NetVLADSpec.from_name("vd16_pitts30k_conv5_3_max").cropped(128)


def test_cropping_shortens_the_whitening_alone() -> None:
    cropped = NetVLADSpec().cropped(512)
    assert cropped == replace(NetVLADSpec(), whitening=512)
    assert cropped.dimension == 512
    assert cropped.weight_shapes["WPCA/kernel"] == (32768, 512)
    assert NetVLADSpec().cropped(4096) == NetVLADSpec()


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_survives_json(name: str) -> None:
    spec = replace(NetVLADSpec.from_name(name), mean=(0.1, 1 / 3, 103.939), name="π")
    again = NetVLADSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)  # tuples again, all the way down
    assert NetVLADSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "spoil",
    [{"mean": [1.0, 2.0]}, {"trunk": None}, {"pooling": "sum"}, {"unheard": 1}],
)
def test_a_dictionary_that_is_no_spec_is_refused(spoil: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        NetVLADSpec.from_dict({**NetVLADSpec().to_dict(), **spoil})


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("vlad:core", "vlad.3Acore"),
        ("conv5_3", "conv5_3"),
        ("a.b", "a.2Eb"),
        ("a.3Ab", "a.2E3Ab"),
        ("a/b c", "a.2Fb.20c"),
        ("_x-y", ".5Fx-y"),
        ("-", ".2D"),
        ("é", ".C3.A9"),
        ("層", ".E5.B1.A4"),
    ],
)
def test_a_layer_s_name_as_tensorflow_allows_it(name: str, written: str) -> None:
    assert keras_name(name) == written
    assert source_name(written) == name


@given(st.text(st.characters(codec="utf-8")))
def test_every_layer_s_name_comes_back(name: str) -> None:
    written = keras_name(name)
    assert source_name(written) == name
    assert not written or written[0] not in "_-"
    assert set(written) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")


def test_importing_the_package_or_the_spec_brings_no_keras() -> None:
    program = (
        "import sys, netvlad_keras\n"
        "heavy = {'keras', 'tensorflow', 'torch', 'h5py', 'PIL', 'numpy'}\n"
        "print(sorted(heavy & sys.modules.keys()), 'NetVLADModel' in dir(netvlad_keras))\n"
        "from netvlad_keras import ImageShapeError, NetVLADSpec, WeightsError\n"
        "NetVLADSpec.from_name('vd16_pitts30k_conv5_3_max')\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
        "try: netvlad_keras.Nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "[] True",
        "[]",
        "module 'netvlad_keras' has no attribute 'Nothing'",
    ]
