"""Writes `model_int8.onnx` from `model.onnx` with ONNX Runtime's static quantisation.

Convolutions and products of matrices get int8 weights, a scale for each output channel, and
uint8 activations whose ranges come from calibration images; norms, VLAD and softmax stay in
float32, as in `onnx_half`. Where that loses too much, the layers that lose most by themselves
(ONNX Runtime's own debugger, signal to noise in dB) go back to float32, a few at a time. A file
that does not rank like its float32 original in the end is not written.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization import qdq_loss_debug as debugger

from converters.errors import ConversionError
from converters.writers.agreement import Agreement, agreement
from converters.writers.onnx_half import kept_layers, owner

__all__ = ["Gate", "write"]

Array = NDArray[Any]

#: What is quantised; MaxPool, so that it stays in int8 between two convolutions.
_QUANTISED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "MaxPool")
_WEIGHING = frozenset(_QUANTISED) - {"MaxPool"}
#: How often layers are taken back, and what share of the quantised ones each time.
_ROUNDS, _SHARE = 4, 0.2


@dataclass(frozen=True, slots=True)
class Gate:
    """What `model_int8.onnx` has to reach beside `model.onnx`.

    top1, top10  share of images with the same nearest other image, and of the ten nearest.
    l2           the largest distance of an image's two descriptors, each of length 1.
    """

    top1: float = 0.95
    top10: float = 0.9
    l2: float = 0.2

    def passed(self, found: Agreement) -> bool:
        """All three; a NaN passes nothing."""
        return found.top1 >= self.top1 and found.top10 >= self.top10 and found.l2 <= self.l2


def write(
    source: Path, path: Path, images: Sequence[Array], gate: Gate | None = None
) -> Iterator[str]:
    """Quantise `source` into `path`; every second image calibrates, all are described.

    images  1×H×W×C (or 1×C×H×W) each, as the file takes them, float32.
    Yields what is done, in words. Raises `ConversionError` with the figures where the gate is
    not passed; nothing is left then.
    """
    gate = gate or Gate()
    model = onnx.load(source)
    wide = kept_layers(model)
    nodes = {node.name: owner(node) for node in model.graph.node if node.op_type in _QUANTISED}
    outside = [name for name, layer in nodes.items() if layer in wide]
    layers = {owner(n) for n in model.graph.node if n.op_type in _WEIGHING} - wide
    weights = {node.input[1]: owner(node) for node in model.graph.node if node.op_type in _WEIGHING}
    right = _described(source, images)
    kept: list[str] = []
    losses: dict[str, float] = {}
    for _ in range(_ROUNDS + 1):
        yield f"quantise {len(layers) - len(kept)} of {len(layers)} layers"
        _quantise(source, path, images[::2], [*outside, *_of(nodes, kept)])
        found = agreement(right, _described(path, images))
        if gate.passed(found):
            faster = _seconds(source, images[0]) / _seconds(path, images[0])
            yield _told(source, path, found, kept, len(layers)) + f", {faster:.2f} times as fast"
            return
        losses = losses or _losses(source, path, images[:1], weights)
        worst = [layer for layer in sorted(losses, key=losses.__getitem__) if layer not in kept]
        kept += worst[: max(1, round(_SHARE * len(layers)))]
    path.unlink()
    table = ", ".join(f"{n} {losses[n]:.0f} dB" for n in sorted(losses, key=losses.__getitem__)[:5])
    raise ConversionError(
        f"int8 loses too much: {found}, with {len(kept)} of {len(layers)} layers in float32; "
        f"asked: {gate}; by themselves lose most: {table}",
        advice="Use model.onnx or --half, or calibrate on more images of the kind it will see.",
    )


def _of(nodes: Mapping[str, str], layers: Sequence[str]) -> list[str]:
    return [name for name, layer in nodes.items() if layer in layers]


def _told(source: Path, path: Path, found: Agreement, kept: Sequence[str], count: int) -> str:
    sizes = f"{path.stat().st_size / 1e6:.1f} MB of {source.stat().st_size / 1e6:.1f}"
    floats = f"{len(kept)} of {count} layers in float32" + (f" ({', '.join(kept)})" if kept else "")
    return f"{path.name}: {found}; {floats}; {sizes}"


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands images to ONNX Runtime one by one."""

    def __init__(self, name: str, images: Sequence[Array]) -> None:
        self.waiting = iter([{name: image} for image in images])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.waiting, None)


def _quantise(source: Path, path: Path, images: Sequence[Array], excluded: list[str]) -> None:
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it recommends steps that rename values
    try:
        quantization.quantize_static(
            source,
            path,
            _Reader(_input(source).name, images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=excluded,
        )
    finally:
        logging.getLogger().setLevel(level)
    model = onnx.load(path)
    model.metadata_props.add(key="numbers", value="int8")
    onnx.save(model, path)


def _losses(
    source: Path, path: Path, images: Sequence[Array], weights: Mapping[str, str]
) -> dict[str, float]:
    """Layer -> signal to noise in dB of its worst tensor by itself, its weights or its output."""
    name = _input(source).name
    found: dict[str, float] = {}
    right, wrong = (_activations(file, name, images) for file in (source, path))
    matched = debugger.create_activation_matching(wrong, right)
    pairs = debugger.create_weight_matching(str(source), str(path))
    own = dict(debugger.compute_weight_error(pairs))
    own |= {t: e["qdq_err"] for t, e in debugger.compute_activation_error(matched).items()}
    for tensor, rate in own.items():
        for layer in {weights.get(tensor), tensor if tensor in weights.values() else None}:
            if layer:
                found[layer] = min(found.get(layer, float("inf")), float(rate))
    return found


def _activations(path: Path, name: str, images: Sequence[Array]) -> Any:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        shown = Path(folder) / "shown.onnx"
        debugger.modify_model_output_intermediate_tensors(str(path), str(shown))
        return debugger.collect_activations(str(shown), _Reader(name, images))


def _input(path: Path) -> Any:
    (found, *others) = _session(path).get_inputs()
    if others or found.type != "tensor(float)":
        raise ConversionError("--int8 is for nets of one input in float32")
    return found


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _described(path: Path, images: Sequence[Array]) -> Array:
    """Each image's first output as one vector of length 1, N×D in float64."""
    session = _session(path)
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: image})[0].reshape(-1) for image in images]
    found: Array = np.stack(rows).astype(np.float64)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(norms, norms, 1)


def _seconds(path: Path, image: Array) -> float:
    """The best of five runs."""
    session = _session(path)
    name = session.get_inputs()[0].name
    found = []
    for _ in range(6):
        start = time.perf_counter()
        session.run(None, {name: image})
        found.append(time.perf_counter() - start)
    return min(found[1:])
