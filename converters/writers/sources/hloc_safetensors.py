"""safetensors under the parameter names of hloc's NetVLAD module.

cvg/Hierarchical-Localization, hloc/extractors/netvlad.py: torchvision's VGG-16
without its last relu and pool (`backbone`), `netvlad` with positive centres D×K
and the vector in MatConvNet's order d·K + k, `whiten` a linear layer. The mean
is no parameter there (`model.preprocess`): it stands in the metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters.checkpoint import Array, Checkpoint
from converters.writers.sources import safetensors_file, vgg16_netvlad
from converters.writers.sources.vgg16_netvlad import CONVOLUTIONS, PROGRAMS

__all__ = ["write"]


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` to `path`; the same one gives the same bytes.

    Raises `LayerError` for a net that hloc's module is not, `OSError` where the
    file cannot be written.
    """
    vgg16_netvlad.refuse(checkpoint, path, PROGRAMS["hloc"])
    parameters = dict(_parameters(checkpoint))
    safetensors_file.save(path, parameters, safetensors_file.facts(checkpoint, "vlad"))


def _parameters(checkpoint: Checkpoint) -> Iterator[tuple[str, Array]]:
    tensors = checkpoint.tensors
    for name, place in CONVOLUTIONS.items():
        yield f"backbone.{place}.weight", tensors[f"{name}/weights/0"].transpose(3, 2, 0, 1)
        yield f"backbone.{place}.bias", tensors[f"{name}/weights/1"]
    yield "netvlad.centers", np.negative(tensors["vlad:core/weights/1"][0, 0])
    yield "netvlad.score_proj.weight", tensors["vlad:core/weights/0"][0, 0].T[:, :, np.newaxis]
    if "WPCA/weights/0" in tensors:
        yield "whiten.weight", tensors["WPCA/weights/0"][0, 0].T
        yield "whiten.bias", tensors["WPCA/weights/1"]
