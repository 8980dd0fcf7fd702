"""Nets of any spec with seeded weights, for tests, demonstrations and benchmarks.

Nothing was trained: a descriptor of such a net says nothing about a place.
"""

from __future__ import annotations

import math

import numpy as np

from converters.checkpoint import Array, Checkpoint
from converters.compose import clusters, compose, shapes
from netvlad_keras.spec import NetVLADSpec
from netvlad_keras.trunks import MINI

__all__ = ["SEED", "SPEC", "mini", "seeded"]

SEED = 2016
#: The 35 layers of the published net in 0.02 MB.
SPEC = NetVLADSpec(trunk=MINI, clusters=8, whitening=16, name="mini")

#: Images minus their mean have about this standard deviation.
_CONTRAST = 64.0
#: The nearest cluster is about this many times as probable as the second.
_RATIO = 10.0


def mini(seed: int = SEED) -> Checkpoint:
    """The small net of `SPEC`, session name `mini`."""
    return seeded(SPEC, seed)


def seeded(spec: NetVLADSpec, seed: int) -> Checkpoint:
    """A net of `spec` with random weights, in its arrays' own 4 bytes per number.

    Activations keep their scale through the trunk (He et al., 2015), clusters
    are random directions, the whitening is nearly orthogonal. Filters lie in
    memory as MATLAB has them, the first axis fastest.
    """
    rng = np.random.default_rng(seed)
    tensors = {
        name: _draw(rng, name, shape)
        for name, shape in shapes(spec).items()
        if not name.startswith("vlad:core/")
    }
    if spec.is_vlad:
        tensors |= _clusters(rng, spec)
    return compose(spec, tensors)


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    values = rng.standard_normal(shape[::-1], dtype=np.float32)
    values *= np.float32(_scale(name, shape))
    return values.T


def _scale(name: str, shape: tuple[int, ...]) -> float:
    """Standard deviation of a weight: biases are small beside what they are added to."""
    layer, _, index = name.split("/")
    if layer == "WPCA":
        return (1.0 if index == "0" else 0.5) / math.sqrt(shape[-2] if index == "0" else shape[-1])
    if index == "1":
        return 0.05
    gain = math.sqrt(2 / math.prod(shape[:-1]))
    return gain / _CONTRAST if layer in ("conv1_1", "conv1") else gain


def _clusters(rng: np.random.Generator, spec: NetVLADSpec) -> dict[str, Array]:
    """Random directions for `vlad:core`, and the alpha that makes `_RATIO` of them."""
    directions = _unit(rng.standard_normal((spec.feature_width, spec.clusters)))
    features = _unit(rng.standard_normal((spec.feature_width, 1000)))
    second, first = np.sort(np.einsum("dk,dn->kn", directions, features), axis=0)[-2:]
    # Two digits of it do not depend on the order in which a machine sums.
    alpha = float(f"{math.log(_RATIO) / np.mean(first - second):.2g}")
    centers = directions * rng.uniform(0.6, 0.9, spec.clusters)
    return clusters(spec.pooling, centers, alpha)


def _unit(columns: Array) -> Array:
    norms: Array = np.sqrt(np.square(columns).sum(axis=0))
    return np.divide(columns, norms)
