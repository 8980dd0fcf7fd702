"""TensorFlow's switch for operations that give the same bits at every run."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["enable"]


def enable() -> None:
    """For the rest of the process. Random operations then need a seed."""
    tf.config.experimental.enable_op_determinism()
