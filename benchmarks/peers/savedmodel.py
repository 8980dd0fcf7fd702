"""The SavedModel in TensorFlow, an image at a time, as the README has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from netvlad_keras.preprocess import load_image


def open(artifacts: Path) -> Callable[[Sequence[Path]], Iterator[Any]]:
    """A function from paths to descriptors."""
    loaded = tf.saved_model.load(str(artifacts / "saved_model"))

    def describe(paths: Sequence[Path]) -> Iterator[Any]:
        serve = loaded.signatures["serving_default"]
        for path in paths:
            image = tf.constant(load_image(path)[None], tf.float32)
            yield serve(image=image)["descriptor"].numpy()[0]

    return describe
