"""Where torchvision's `vgg16().features` keeps VGG-16's convolutions."""

from __future__ import annotations

from converters.layermap import Rule

__all__ = ["convolutions"]

_PLACES = {
    "conv1_1": 0, "conv1_2": 2,
    "conv2_1": 5, "conv2_2": 7,
    "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21,
    "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip


def convolutions(module: str) -> dict[str, tuple[Rule, ...]]:
    """Rows for a trunk that is called `module`."""
    return {
        name: (
            Rule(f"{module}.{place}.weight", "{name}/kernel", "o i h w -> h w i o"),
            Rule(f"{module}.{place}.bias", "{name}/bias", "o -> o"),
        )
        for name, place in _PLACES.items()
    }
