"""The layers behind the convolutions, run again with something left out or in another order."""

from __future__ import annotations

import numpy as np

from verify.capture import Array, Runner

__all__ = ["Head", "flat"]

_LAYERS = ("preL2", "vlad:core", "max:core", "avg:core", "vlad:intranorm", "postL2", "WPCA",
           "finalL2")  # fmt: skip


class Head:
    """What one picture gave in the layers of a NetVLAD's head, and the layers themselves.

    layers  those that the artifact has, in order; each reads the one before it.
    values  their outputs; `features`, what the first of them reads.
    """

    def __init__(self, runner: Runner, image: Array) -> None:
        self.runner = runner
        self.layers = tuple(name for name in runner.layers if name in _LAYERS)
        self.values: dict[str, Array] = {}
        self.features: Array = np.empty(0)
        for name, output in runner.run(image):
            if name in self.layers:
                self.values[name] = output
            elif not self.values:
                self.features = output

    def before(self, layer: str) -> Array:
        """What a layer reads."""
        place = self.layers.index(layer)
        return self.values[self.layers[place - 1]] if place else self.features

    def behind(self, layer: str, values: Array) -> Array:
        """The descriptor, N×D, with `values` in the place of this layer's output."""
        for name in self.layers[self.layers.index(layer) + 1 :]:
            values = self.runner.replay(name, [np.asarray(values, np.float32)])
        return flat(values)


def flat(values: Array) -> Array:
    """N×1×K×D or N×H×W×C as vectors in MATLAB's order: after VLAD, K fastest."""
    vectors: Array = values if values.ndim == 2 else values.transpose(0, 3, 2, 1)
    return vectors.reshape(len(values), -1)
