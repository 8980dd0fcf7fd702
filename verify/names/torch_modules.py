"""hloc's NetVLAD module and pytorch-NetVlad's model: what their parameters are called.

hloc/extractors/netvlad.py; Nanne/pytorch-NetVlad, main.py and netvlad.py, with the `WPCA` of
QVPR/Patch-NetVLAD. The convolutions are numbered as in torchvision's `vgg16().features`. Both
hold the centres as they are, where MatConvNet has them negated.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from verify.names.canonical import Place

__all__ = ["PARAMETERS"]

_NUMBERS: Mapping[str, int] = MappingProxyType(
    {
        **{"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7},
        **{"conv3_1": 10, "conv3_2": 12, "conv3_3": 14},
        **{"conv4_1": 17, "conv4_2": 19, "conv4_3": 21},
        **{"conv5_1": 24, "conv5_2": 26, "conv5_3": 28},
    }
)


def _trunk(module: str) -> Mapping[str, Place]:
    kernels = {f"{n}/kernel": Place(f"{module}.{i}.weight", "OIHW") for n, i in _NUMBERS.items()}
    return kernels | {f"{n}/bias": Place(f"{module}.{i}.bias", "O") for n, i in _NUMBERS.items()}


#: Format, as the reader calls it -> canonical weight -> parameter. The reader adds `input/mean`,
#: and gives the columns of `WPCA.0.weight`, which run k·D + d, as K×D×1×1.
PARAMETERS: Mapping[str, Mapping[str, Place]] = MappingProxyType(
    {
        "hloc": {
            "input/mean": Place("input/mean", "C"),
            **_trunk("backbone"),
            "vlad:core/assignment": Place("netvlad.score_proj.weight", "KD1"),
            "vlad:core/centers": Place("netvlad.centers", "DK"),
            "WPCA/kernel": Place("whiten.weight", "OI"),
            "WPCA/bias": Place("whiten.bias", "O"),
        },
        "pytorch_netvlad": {
            "input/mean": Place("input/mean", "C"),
            **_trunk("encoder"),
            "vlad:core/assignment": Place("pool.conv.weight", "KD11"),
            "vlad:core/bias": Place("pool.conv.bias", "K"),
            "vlad:core/centers": Place("pool.centroids", "KD"),
            "WPCA/kernel": Place("WPCA.0.weight", "OKD11"),
            "WPCA/bias": Place("WPCA.0.bias", "O"),
        },
    }
)
