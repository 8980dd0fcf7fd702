"""Reads a TensorFlow checkpoint that has no graph: weights to compare, nothing to run."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import tensorflow as tf

from converters.errors import ReadError
from verify.capture import Array
from verify.names import netvlad_tf
from verify.names.given import Names, check
from verify.names.weights import KERAS, by_name
from verify.runners import NOTES
from verify.runners.layered import Layered, weights_only
from verify.runners.tf_bundle import find

__all__ = ["open"]

#: What TensorFlow 2 adds to the name of a variable, and entries that are none.
_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
_COUNTERS = ("global_step", "save_counter", "_CHECKPOINTABLE_OBJECT_GRAPH")
_NOTE = "the checkpoint holds no graph (no .meta file): its weights alone are compared"


def open(path: Path, names: Names = MappingProxyType({})) -> Layered:
    """Open a checkpoint by its prefix or one of its files; `names`: canonical weight -> variable.

    Raises `ReadError` for a checkpoint that cannot be read, `MappingError` for names that it
    lacks.
    """
    prefix = find(path)
    try:
        reader = tf.train.load_checkpoint(prefix)
        keys = [key for key in reader.get_variable_to_shape_map() if not key.endswith(_COUNTERS)]
    except (ValueError, tf.errors.OpError) as error:
        raise ReadError(path, f"cannot be read as a checkpoint: {error}") from error
    own = {key.split(_OBJECT)[0]: key for key in sorted(keys)}
    check(names, own, path)

    def stored() -> dict[str, Array]:
        try:
            arrays = {name: reader.get_tensor(key) for name, key in own.items()}
        except (ValueError, tf.errors.OpError) as error:
            raise ReadError(path, f"cannot be read: {error}") from error
        return by_name(arrays, KERAS, {**netvlad_tf.VARIABLES, **names})

    return weights_only("tf_variables", path, stored, (*NOTES, _NOTE))
