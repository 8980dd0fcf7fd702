"""NetVLAD in PyTorch with the weights of the .h5 artifact, in the manner of hloc.

hloc (github.com/cvg/Hierarchical-Localization, extractors/netvlad.py and extract_features.py)
feeds one image at a time from a loader with one worker, and sums the residuals of all K
clusters at all places as one broadcast product of N×D×K×P numbers. So does this. Other than
there, the intra-normalisation adds the original's 1e-12: `functional.normalize`, which bounds
the norm instead, makes a cluster that has no features as long as those that have some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from netvlad_keras.preprocess import load_image
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.weights import opened


def open(artifacts: Path) -> Callable[[Sequence[Path]], Iterator[Any]]:
    """A function from paths to descriptors. Takes nets on a VGG trunk, with vlad pooling."""
    net = loaded(artifacts)

    def describe(paths: Sequence[Path]) -> Iterator[Any]:
        loader = torch.utils.data.DataLoader(Images(paths), num_workers=1)
        with torch.no_grad():
            for image in loader:
                yield net(image)[0].numpy()

    return describe


def loaded(artifacts: Path, *, matmul: bool = False) -> NetVLAD:
    """The net of the .h5 artifact; with `matmul` its residuals are summed as two products."""
    with opened(artifacts / "model.h5") as file:
        spec = file.spec
        weights = {name: np.array(value, np.float32) for name, value in file.entries.items()}
    if not isinstance(spec, NetVLADSpec) or spec.pooling != "vlad" or not spec.prel2:
        raise SystemExit(f"{artifacts}: not a net with vlad pooling on preL2")
    net: NetVLAD = NetVLAD(spec, weights, matmul=matmul).eval()
    return net


class Images(torch.utils.data.Dataset):  # type: ignore[misc]
    """Images as 3×H×W, 0 to 1."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        pixels = load_image(self.paths[index]).astype(np.float32)
        return torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255))


class NetVLAD(torch.nn.Module):  # type: ignore[misc]
    """[1, 3, H, W] in 0 to 1 -> [1, dimension]."""

    def __init__(
        self, spec: NetVLADSpec, weights: Mapping[str, Any], *, matmul: bool = False
    ) -> None:
        super().__init__()
        self.spec, self.matmul = spec, matmul
        self.trunk = torch.nn.Sequential(*_trunk(spec, weights))
        tensor = {name: torch.from_numpy(value) for name, value in weights.items()}
        self.mean = tensor["input/mean"].reshape(1, 3, 1, 1)
        self.assignment = tensor["vlad:core/assignment"].T[..., None]  # K×D×1
        self.centers = tensor["vlad:core/centers"]  # D×K
        self.whitening = None
        if spec.whitening:
            self.whitening = tensor["WPCA/kernel"].T.contiguous(), tensor["WPCA/bias"]

    def forward(self, image: Any) -> Any:
        features = self.trunk(image * 255 - self.mean).flatten(2)
        features = functional.normalize(features, dim=1)
        scores = functional.softmax(functional.conv1d(features, self.assignment), dim=1)
        if self.matmul:
            vlad = features @ scores.transpose(1, 2) - self.centers * scores.sum(-1)[:, None]
        else:
            residuals = features[:, :, None] - self.centers[None, :, :, None]  # N×D×K×P
            vlad = (scores[:, None] * residuals).sum(dim=-1)
        if self.spec.intranorm:
            vlad = vlad / torch.sqrt(vlad.square().sum(dim=1, keepdim=True) + 1e-12)
        vector = functional.normalize(vlad.flatten(1), dim=1)
        if self.whitening is None:
            return vector
        return functional.normalize(functional.linear(vector, *self.whitening), dim=1)


def _trunk(spec: NetVLADSpec, weights: Mapping[str, Any]) -> Iterator[Any]:
    channels = 3
    for row in spec.trunk:
        if row.kind == "conv":
            layer = torch.nn.Conv2d(channels, row.width, row.kernel, padding=row.pads[0])
            kernel = weights[f"{row.name}/kernel"].transpose(3, 2, 0, 1)
            layer.weight.data = torch.from_numpy(np.ascontiguousarray(kernel))
            layer.bias.data = torch.from_numpy(weights[f"{row.name}/bias"])
            channels = row.width
            yield layer
        elif row.kind == "pool":
            yield torch.nn.MaxPool2d(row.kernel, row.stride)
        elif row.kind == "relu":
            yield torch.nn.ReLU()
        else:
            raise SystemExit(f"{row.name}: a {row.kind} is in no VGG net")
