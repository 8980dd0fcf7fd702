"""FFDNet's two layers of its own, as a plugin: `--plugin examples/ffdnet_layers.py`.

`SubP` moves pixels between space and channels, `concat` puts the noise level beside the
features. What they compute is in FFDNet's `vl_nnSubP.m` and `vl_ffdnet_concise.m`
(github.com/cszn/FFDNet).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

#: `concat` reads the noise level as well: an input of the net, N×1×1×1 or a map.
INPUTS = {"concat": (("sigmas", 1),)}
#: A grey image; for FFDNet's colour net: 3.
CHANNELS = {"input": 1}


def sub_p(x: Any, *, scale: float) -> Any:
    """Channel c·s² + b·s + a, with s the step, is the pixel in row a and column b of a block."""
    images, height, width, channels = x.shape
    if scale < 1:
        step = round(1 / scale)
        blocks = x.reshape(images, height // step, step, width // step, step, channels)
        return blocks.transpose(0, 1, 3, 5, 4, 2).reshape(
            images, height // step, width // step, channels * step**2
        )
    step = round(scale)
    blocks = x.reshape(images, height, width, channels // step**2, step, step)
    return blocks.transpose(0, 1, 5, 2, 4, 3).reshape(
        images, height * step, width * step, channels // step**2
    )


def concat(x: Any, sigmas: Any) -> Any:
    """The features, and the noise level at every place."""
    level = np.broadcast_to(sigmas, (*x.shape[:3], 1))
    return np.concatenate([x, level], axis=3)


#: The same for netvlad-verify, in NumPy.
ORACLE: Mapping[str, Callable[..., Any]] = {"SubP": sub_p, "concat": concat}


def _keras() -> dict[str, Callable[[Any], Any]]:
    try:
        import keras
    except ModuleNotFoundError:  # netvlad-verify of an ONNX file needs none
        return {}
    ops = keras.ops

    class SubP(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, scale: float, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.scale = scale
            self.step = round(1 / scale if scale < 1 else scale)

        def call(self, x: Any) -> Any:
            images, height, width, _ = ops.shape(x)
            channels, step = x.shape[3], self.step
            if self.scale < 1:
                sizes = images, height // step, step, width // step, step, channels
                blocks = ops.transpose(ops.reshape(x, sizes), (0, 1, 3, 5, 4, 2))
                return ops.reshape(
                    blocks, (images, height // step, width // step, channels * step**2)
                )
            sizes = images, height, width, channels // step**2, step, step
            blocks = ops.transpose(ops.reshape(x, sizes), (0, 1, 5, 2, 4, 3))
            return ops.reshape(blocks, (images, height * step, width * step, channels // step**2))

        def compute_output_shape(self, shape: Any) -> Any:
            images, height, width, channels = shape
            down, up = (self.step, 1) if self.scale < 1 else (1, self.step)
            sizes = [None if size is None else size // down * up for size in (height, width)]
            return (images, *sizes, channels * down**2 // up**2)

    class Concat(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            x, sigmas = inputs
            return ops.concatenate([x, sigmas + ops.zeros_like(x[..., :1])], axis=-1)

        def compute_output_shape(self, shapes: Any) -> Any:
            return (*shapes[0][:3], shapes[0][3] + 1)

    return {"SubP": lambda row: SubP(row.options["scale"]), "concat": lambda row: Concat()}


#: A layer's row in the net (`.name`, `.options`, `.weights`) -> its Keras layer.
KERAS = _keras()
