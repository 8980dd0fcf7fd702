"""safetensors under the parameter names of pytorch-NetVlad and of Patch-NetVLAD.

Nanne/pytorch-NetVlad, main.py and netvlad.py: torchvision's VGG-16 without its
last relu and pool (`encoder`), `pool` with positive centres K×D and the vector
in the order k·D + d. It has no whitening; QVPR/Patch-NetVLAD, which is built on
it, has one as `WPCA` (patchnetvlad/models/models_generic.py).

Both scale their input by torchvision's `Normalize`. The mean that leaves
MatConvNet's scale 0 to 255 as it is stands in the metadata as its arguments;
conv1_1 is as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters.checkpoint import MEAN, Array, Checkpoint
from converters.writers.sources import safetensors_file, vgg16_netvlad
from converters.writers.sources.vgg16_netvlad import CONVOLUTIONS, PROGRAMS

__all__ = ["write"]

_POOLINGS = {
    "layerVLAD": "vlad",
    "layerVLADv2": "vladv2",
    "layerTotalMaxPool": "max",
    "layerTotalAvgPool": "avg",
}


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` to `path`; the same one gives the same bytes.

    Raises `LayerError` for a net that these programs do not have, `OSError`
    where the file cannot be written.
    """
    vgg16_netvlad.refuse(checkpoint, path, PROGRAMS["pytorch-netvlad"])
    kinds = {layer.kind for layer in checkpoint.layers}
    (pooling,) = (name for kind, name in _POOLINGS.items() if kind in kinds)
    parameters = dict(_parameters(checkpoint, pooling))
    facts = safetensors_file.facts(checkpoint, pooling)
    safetensors_file.save(path, parameters, facts | {"normalize": _normalize(checkpoint)})


def _parameters(checkpoint: Checkpoint, pooling: str) -> Iterator[tuple[str, Array]]:
    tensors = checkpoint.tensors
    for name, place in CONVOLUTIONS.items():
        yield f"encoder.{place}.weight", tensors[f"{name}/weights/0"].transpose(3, 2, 0, 1)
        yield f"encoder.{place}.bias", tensors[f"{name}/weights/1"]
    clusters = 1
    if pooling in ("vlad", "vladv2"):
        assignment = tensors["vlad:core/weights/0"]
        clusters = assignment.shape[-1]
        centres = tensors["vlad:core/weights/2" if pooling == "vladv2" else "vlad:core/weights/1"]
        yield "pool.centroids", np.negative(centres[0, 0].T)
        yield "pool.conv.weight", assignment.transpose(3, 2, 0, 1)
    if pooling == "vladv2":
        yield "pool.conv.bias", tensors["vlad:core/weights/1"]
    if "WPCA/weights/0" in tensors:
        rows = tensors["WPCA/weights/0"][0, 0].T  # P × (d·K + k)
        outputs, inputs = rows.shape
        apart = rows.reshape(outputs, inputs // clusters, clusters)
        yield "WPCA.0.weight", apart.transpose(0, 2, 1).reshape(outputs, inputs, 1, 1)
        yield "WPCA.0.bias", tensors["WPCA/weights/1"]


def _normalize(checkpoint: Checkpoint) -> str:
    """Arguments for torchvision.transforms.Normalize, behind ToTensor, which divides by 255."""
    mean = [float(value) / 255 for value in checkpoint.tensors[MEAN][0, 0]]
    return json.dumps({"mean": mean, "std": [1 / 255] * 3})
