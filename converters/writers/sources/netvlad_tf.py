"""A TensorFlow checkpoint with the variable names of netvlad_tf_open (uzh-rpg).

A TF1 Saver's V2 bundle, `<prefix>.index` and `<prefix>.data-00000-of-00001`,
and `<prefix>.meta` with the graph of its `nets.py`. That is VGG-16 with
NetVLAD and a whitening; other nets have no names there and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from converters.checkpoint import MEAN, Array, Checkpoint
from converters.writers.sources import vgg16_netvlad
from converters.writers.sources.netvlad_tf_graph import SCOPE, meta_graph
from converters.writers.sources.vgg16_netvlad import CONVOLUTIONS, PROGRAMS

__all__ = ["files", "write"]

_SUFFIXES = (".data-00000-of-00001", ".meta", ".index")


def files(prefix: Path) -> tuple[Path, ...]:
    """The files of the checkpoint called `prefix`, the index last."""
    return tuple(prefix.with_name(prefix.name + suffix) for suffix in _SUFFIXES)


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` under the prefix `path`; the same one gives the same bytes.

    The index is put in its place last, so a checkpoint with an index is whole.
    Sizes are the net's own, whatever `nets.py` builds. Raises `LayerError` for
    a net that is not netvlad_tf_open's, `OSError` where the files cannot be
    written.
    """
    vgg16_netvlad.refuse(checkpoint, path, PROGRAMS["tf"])
    variables = _variables(checkpoint.tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        new = Path(folder) / path.name
        try:
            tf.raw_ops.SaveV2(
                prefix=str(new),
                tensor_names=list(variables),
                shape_and_slices=[""] * len(variables),
                tensors=[_lent(array) for array in variables.values()],
            )
        except tf.errors.OpError as error:
            raise OSError(f"{path}: {error.message}") from error
        files(new)[1].write_bytes(meta_graph({n: array.shape for n, array in variables.items()}))
        files(path)[-1].unlink(missing_ok=True)
        for source, target in zip(files(new), files(path), strict=True):
            source.replace(target)


def _lent(array: Array) -> Any:
    """A tensor on the array's own memory; `tf.constant` would copy it twice."""
    return tf.experimental.dlpack.from_dlpack(np.require(array, None, ["C", "W"]).__dlpack__())


def _variables(tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {
        f"{SCOPE}/{_VARIABLES[name]}": tensor[_VIEWS.get(name, ...)]
        for name, tensor in tensors.items()
    }


#: Our name -> the variable's. The centres keep MatConvNet's sign.
_VARIABLES = {
    MEAN: "average_rgb",
    **{
        f"{layer}/weights/{n}": f"{layer}/{weight}"
        for layer in (*CONVOLUTIONS, "WPCA")
        for n, weight in enumerate(("kernel", "bias"))
    },
    "vlad:core/weights/0": "assignment/kernel",
    "vlad:core/weights/1": "cluster_centers",
}
#: The mean is the first pixel, [3]; the centres gain an axis, [1, 1, 1, D, K].
_VIEWS: Mapping[str, Any] = {MEAN: np.s_[0, 0], "vlad:core/weights/1": np.s_[np.newaxis]}
