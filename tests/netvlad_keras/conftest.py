"""A float64 NumPy reference of the model, and small nets that have every kind of layer.

The reference is written out from the documentation of MatConvNet and of NetVLAD's layer
classes, with plain loops; it shares nothing with the model but its spec. N×H×W×C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import Row, Trunk

Array = NDArray[Any]

#: VGG's pattern: a max-pool before the relu. Needs 2 pixels.
VGG: Trunk = (
    Row("conv", "conv1_1", (3, 3), pads=(1, 1, 1, 1), width=6),
    Row("relu", "relu1_1"),
    Row("conv", "conv1_2", (3, 3), pads=(1, 1, 1, 1), width=6),
    Row("pool", "pool1", (2, 2), (2, 2)),
    Row("relu", "relu1_2"),
    Row("conv", "conv2_1", (3, 3), pads=(1, 1, 1, 1), width=8),
)
#: AlexNet's: strides, LRN, groups, uneven pads. Needs 7 pixels.
ALEX: Trunk = (
    Row("conv", "conv1", (5, 5), (2, 2), width=8),
    Row("pool", "pool1", (3, 3), (2, 2), (0, 1, 0, 1)),
    Row("relu", "relu1"),
    Row("normalize", "norm1", lrn=(5, 1.0, 2e-5, 0.75)),
    Row("conv", "conv2", (3, 3), pads=(1, 1, 1, 1), groups=2, width=12),
    Row("relu", "relu2"),
    Row("conv", "conv3", (3, 2), pads=(2, 0, 0, 1), groups=4, width=8),
)
TRUNKS = {"vgg": VGG, "alex": ALEX}

#: Pooling, preL2, intra-normalisation: every row of the methods' table.
METHODS: dict[str, tuple[str, bool, bool]] = {
    "max": ("max", False, False),
    "avg": ("avg", False, False),
    "vlad_preL2": ("vlad", True, False),
    "vlad_preL2_intra": ("vlad", True, True),
    "vladv2_preL2": ("vladv2", True, False),
    "vladv2_preL2_intra": ("vladv2", True, True),
}


def _spec(trunk: str, method: str, mean: tuple[float, float, float]) -> NetVLADSpec:
    pooling, prel2, intra = METHODS[method.removesuffix("_white")]
    return NetVLADSpec(
        trunk=TRUNKS[trunk],
        pooling=pooling,
        prel2=prel2,
        intranorm=intra,
        clusters=3 if "vlad" in method else 0,
        whitening=5 if method.endswith("_white") else 0,
        mean=mean,
        name=f"{trunk}_{method}",
    )


SPECS = {
    f"{trunk}-{method}{white}": _spec(trunk, f"{method}{white}", (120.0, 110.5, 100.25))
    for trunk in TRUNKS
    for method in METHODS
    for white in ("", "_white")
}


class Reference:
    """MatConvNet's layers in float64."""

    @staticmethod
    def padded(x: Array, pads: Sequence[int], value: float) -> Array:
        top, bottom, left, right = pads
        edges = ((0, 0), (top, bottom), (left, right), (0, 0))
        return np.pad(np.asarray(x, np.float64), edges, constant_values=value)

    @staticmethod
    def conv(
        x: Array,
        kernel: Array,
        bias: Array,
        *,
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        groups: int = 1,
        dilation: Sequence[int] = (1, 1),
    ) -> Array:
        x = Reference.padded(x, pads, 0.0)
        kernel = np.asarray(kernel, np.float64)
        high, wide, depth, width = kernel.shape
        rows = (x.shape[1] - (high - 1) * dilation[0] - 1) // strides[0] + 1
        columns = (x.shape[2] - (wide - 1) * dilation[1] - 1) // strides[1] + 1
        y = np.zeros((len(x), rows, columns, width))
        share = width // groups
        for i, j, g in np.ndindex(rows, columns, groups):
            down = i * strides[0] + dilation[0] * np.arange(high)
            across = j * strides[1] + dilation[1] * np.arange(wide)
            patch = x[:, down][:, :, across][..., g * depth : (g + 1) * depth]
            mine = slice(g * share, (g + 1) * share)
            y[:, i, j, mine] = np.tensordot(patch, kernel[..., mine], 3)
        return y + bias

    @staticmethod
    def max_pool(
        x: Array, size: Sequence[int], strides: Sequence[int], pads: Sequence[int]
    ) -> Array:
        x = Reference.padded(x, pads, -np.inf)
        rows = (x.shape[1] - size[0]) // strides[0] + 1
        columns = (x.shape[2] - size[1]) // strides[1] + 1
        y = np.empty((len(x), rows, columns, x.shape[3]))
        for i, j in np.ndindex(rows, columns):
            top, left = i * strides[0], j * strides[1]
            window = x[:, top : top + size[0], left : left + size[1]]
            y[:, i, j] = window.max(axis=(1, 2))
        return y

    @staticmethod
    def lrn(x: Array, window: int, kappa: float, alpha: float, beta: float) -> Array:
        """vl_nnnormalize: channels k - floor((N-1)/2) to k + ceil((N-1)/2)."""
        x = np.asarray(x, np.float64)
        y = np.empty_like(x)
        for k in range(x.shape[-1]):
            near = x[..., max(0, k - (window - 1) // 2) : k + -(-(window - 1) // 2) + 1]
            y[..., k] = x[..., k] / (kappa + alpha * (near**2).sum(axis=-1)) ** beta
        return y

    @staticmethod
    def l2(x: Array) -> Array:
        """vl_nnnormalize over all channels: the epsilon is under the root."""
        x = np.asarray(x, np.float64)
        return np.asarray(x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + 1e-12))

    @staticmethod
    def whole_l2(x: Array) -> Array:
        """layerWholeL2Normalize: as MATLAB flattens; the epsilon is outside the root."""
        vectors = [np.asarray(image, np.float64).ravel(order="F") for image in x]
        return np.stack([v / (np.sqrt((v**2).sum()) + 1e-12) for v in vectors])

    @staticmethod
    def vlad(x: Array, assignment: Array, centers: Array, bias: Array | float = 0.0) -> Array:
        """The sum over pixels of softmax(x·w + b) · (x - c), residual by residual."""
        x = np.asarray(x, np.float64).reshape(len(x), -1, x.shape[-1])
        y = np.zeros((len(x), 1, assignment.shape[1], x.shape[-1]))
        for n, i in np.ndindex(x.shape[:2]):
            logits = x[n, i] @ np.asarray(assignment, np.float64) + bias
            weight = np.exp(logits - logits.max())
            weight /= weight.sum()
            for k in range(len(weight)):
                y[n, 0, k] += weight[k] * (x[n, i] - centers[:, k])
        return y

    @staticmethod
    def descriptor(spec: NetVLADSpec, arrays: Mapping[str, Array], images: Array) -> Array:
        """What the net of `spec` with these weights makes of the images."""
        w = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        x = np.asarray(images, np.float64) - w["input/mean"]
        rows = {row.name: row for row in spec.trunk}
        for name, kind in spec.layers:
            if name in rows:
                x = Reference._row(rows[name], w, x)
            elif name.endswith(":core"):
                x = Reference._core(kind, w, x)
            elif name == "WPCA":
                x = x @ w["WPCA/kernel"] + w["WPCA/bias"]
            else:
                x = (Reference.l2 if kind == "normalize" else Reference.whole_l2)(x)
        return x

    @staticmethod
    def _row(row: Row, w: Mapping[str, Array], x: Array) -> Array:
        if row.kind == "relu":
            return np.maximum(x, 0)
        if row.kind == "normalize":
            return Reference.lrn(x, int(row.lrn[0]), *row.lrn[1:])
        if row.kind == "pool":
            return Reference.max_pool(x, row.kernel, row.stride, row.pads)
        kernel, bias = w[f"{row.name}/kernel"], w[f"{row.name}/bias"]
        return Reference.conv(x, kernel, bias, strides=row.stride, pads=row.pads, groups=row.groups)

    @staticmethod
    def _core(kind: str, w: Mapping[str, Array], x: Array) -> Array:
        if kind == "layerTotalMaxPool":
            return np.asarray(x.max(axis=(1, 2)))
        if kind == "layerTotalAvgPool":
            return np.asarray(x.mean(axis=(1, 2)))
        bias = w.get("vlad:core/bias", np.zeros(()))
        return Reference.vlad(x, w["vlad:core/assignment"], w["vlad:core/centers"], bias)


@pytest.fixture(scope="session")
def reference() -> type[Reference]:
    """The layers, and `descriptor(spec, arrays, images)`, in float64."""
    return Reference


@pytest.fixture(scope="session")
def specs() -> dict[str, NetVLADSpec]:
    """Every method on both patterns of trunk: `vgg-vlad_preL2_intra_white` and so on."""
    return SPECS


@pytest.fixture(scope="session")
def drawn() -> Any:
    """drawn(spec, seed) -> seeded weights by canonical name, at the scale of trained ones."""

    def draw(spec: NetVLADSpec, seed: int = 0) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        arrays = {}
        for name, shape in spec.weight_shapes.items():
            scales = {"bias": 0.1, "assignment": 2.0, "centers": 0.5}
            scales["kernel"] = math.sqrt(2 / math.prod(shape[:-1]))
            scale = scales.get(name.rpartition("/")[2], 1.0)
            arrays[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
        arrays["input/mean"] = np.asarray(spec.mean, np.float32)
        return arrays

    return draw


@pytest.fixture(scope="session")
def images() -> Any:
    """images(n, height, width) -> seeded uint8 images."""

    def make(count: int = 2, height: int = 13, width: int = 10) -> Array:
        rng = np.random.default_rng(7)
        return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)

    return make


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `case` runs once for every method and trunk."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", list(SPECS))


@pytest.fixture(scope="session")
def make_onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes small nets from images to vectors of length 1, all with the same weights."""

    def make(
        name: str = "net.onnx",
        *,
        layout: str = "NHWC",
        dtype: int = onnx.TensorProto.FLOAT,
        sizes: Sequence[int | str] = ("batch", "height", "width"),
        metadata: Mapping[str, str] | None = None,
        work: int = 1,
    ) -> Path:
        batch, height, width = sizes
        shape = [batch, height, width, 3] if layout == "NHWC" else [batch, 3, height, width]
        model = onnx.helper.make_model(
            _graph(layout, dtype, shape, work),
            opset_imports=[onnx.helper.make_opsetid("", 17)],
            ir_version=8,
        )
        onnx.helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model, full_check=True)
        path = tmp_path_factory.mktemp("net") / name
        onnx.save(model, path)
        return path

    return make


def _graph(layout: str, dtype: int, shape: Sequence[int | str], work: int) -> Any:
    """A convolution (and `work` - 1 more), its mean, 8 numbers, L2."""
    rng = np.random.default_rng(7)
    weights: dict[str, Array] = {
        "kernel": rng.normal(size=(16, 3, 3, 3)).astype(np.float32) / 255,
        "again": rng.normal(size=(16, 16, 3, 3)).astype(np.float32) / 12,
        "mix": rng.normal(size=(16, 8)).astype(np.float32),
    }
    node = onnx.helper.make_node
    nodes = [
        node("Cast", ["image"], ["real"], to=onnx.TensorProto.FLOAT),
        node("Transpose", ["real"], ["lying"], perm=[0, 3, 1, 2])
        if layout == "NHWC"
        else node("Identity", ["real"], ["lying"]),
        node("Conv", ["lying", "kernel"], ["map0"], pads=[1, 1, 1, 1]),
        *(
            node("Conv", [f"map{i}", "again"], [f"map{i + 1}"], pads=[1, 1, 1, 1])
            for i in range(work - 1)
        ),
        node("Relu", [f"map{work - 1}"], ["positive"]),
        node("ReduceMean", ["positive"], ["mean"], axes=[2, 3], keepdims=0),
        node("MatMul", ["mean", "mix"], ["long"]),
        node("ReduceL2", ["long"], ["length"], axes=[1]),
        node("Div", ["long", "length"], ["descriptor"]),
    ]
    return onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info("image", dtype, shape)],
        [onnx.helper.make_tensor_value_info("descriptor", onnx.TensorProto.FLOAT, [shape[0], 8])],
        [onnx.numpy_helper.from_array(value, key) for key, value in weights.items()],
    )


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of eleven small pictures: two sizes, and one alone of its size."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(11):
        height, width = (24, 32) if number % 3 else (32, 24)
        if number == 10:
            height, width = 17, 23
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder
