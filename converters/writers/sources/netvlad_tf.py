"""A TensorFlow checkpoint with the variable names of netvlad_tf_open (uzh-rpg).

A TF1 Saver's V2 bundle, `<prefix>.index` and `<prefix>.data-00000-of-00001`,
without the graph. netvlad_tf_open's graph is VGG-16 with NetVLAD and an
optional whitening; other nets have no names there and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from converters.checkpoint import MEAN, Array, Checkpoint
from converters.errors import LayerError

__all__ = ["files", "write"]

_SCOPE = "vgg16_netvlad_pca"
_TRUNK = (
    *("conv1_1", "relu1_1", "conv1_2", "pool1", "relu1_2"),
    *("conv2_1", "relu2_1", "conv2_2", "pool2", "relu2_2"),
    *("conv3_1", "relu3_1", "conv3_2", "relu3_2", "conv3_3", "pool3", "relu3_3"),
    *("conv4_1", "relu4_1", "conv4_2", "relu4_2", "conv4_3", "pool4", "relu4_3"),
    *("conv5_1", "relu5_1", "conv5_2", "relu5_2", "conv5_3"),
)
_NETVLAD = ("preL2", "vlad:core", "vlad:intranorm", "postL2")
_WHITENING = ("WPCA", "finalL2")
_SUFFIXES = (".data-00000-of-00001", ".index")


def files(prefix: Path) -> tuple[Path, ...]:
    """The files of the checkpoint called `prefix`, the index last."""
    return tuple(prefix.with_name(prefix.name + suffix) for suffix in _SUFFIXES)


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint` under the prefix `path`; the same one gives the same bytes.

    The index is put in its place last, so a checkpoint with an index is whole.
    Raises `LayerError` for a net that is not netvlad_tf_open's, `OSError` where
    the files cannot be written.
    """
    _check(checkpoint, path)
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
        data, index = files(path)
        index.unlink(missing_ok=True)
        for source, target in zip(files(new), (data, index), strict=True):
            source.replace(target)


def _check(checkpoint: Checkpoint, path: Path) -> None:
    """netvlad_tf_open's code has one order of layers; its variables could not say another."""
    whole = _TRUNK + _NETVLAD + _WHITENING
    allowed = (whole, whole[: -len(_WHITENING)])
    found = tuple(layer.name for layer in checkpoint.layers)
    faults = {name: "netvlad_tf_open's net lacks it" for name in found if name not in whole}
    faults |= {name: "this net lacks it" for name in allowed[1] if name not in found}
    faults |= {
        name.split("/")[0]: f"netvlad_tf_open has no variable for {name}"
        for name in checkpoint.tensors
        if name not in _VARIABLES
    }
    if not faults and found not in allowed:
        faults = {"(net)": "the layers stand in another order than netvlad_tf_open's"}
    if faults:
        raise LayerError(path, faults, advice="write this net as a .mat file")


def _lent(array: Array) -> Any:
    """A tensor on the array's own memory; `tf.constant` would copy it twice."""
    return tf.experimental.dlpack.from_dlpack(np.require(array, None, ["C", "W"]).__dlpack__())


def _variables(tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {
        f"{_SCOPE}/{_VARIABLES[name]}": tensor[_VIEWS.get(name, ...)]
        for name, tensor in tensors.items()
    }


#: Our name -> the variable's. The centres keep MatConvNet's sign.
_VARIABLES = {
    MEAN: "average_rgb",
    **{
        f"{layer}/weights/{n}": f"{layer}/{weight}"
        for layer in (*_TRUNK, "WPCA")
        if layer.startswith("conv") or layer == "WPCA"
        for n, weight in enumerate(("kernel", "bias"))
    },
    "vlad:core/weights/0": "assignment/kernel",
    "vlad:core/weights/1": "cluster_centers",
}
#: The mean is the first pixel, [3]; the centres gain an axis, [1, 1, 1, D, K].
_VIEWS: Mapping[str, Any] = {MEAN: np.s_[0, 0], "vlad:core/weights/1": np.s_[np.newaxis]}
