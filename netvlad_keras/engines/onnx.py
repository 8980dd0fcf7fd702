"""`.onnx` files in ONNX Runtime, on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from netvlad_keras.engines import Array, Contract, Engine
from netvlad_keras.errors import ModelFileError
from netvlad_keras.spec import NetVLADSpec

__all__ = ["open"]

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


def open(path: Path) -> Engine:
    """A file with one input of images and one descriptor, of this project or of any other.

    Whether descriptors are whitened is known of this project's files alone, from their
    metadata. Raises `ModelFileError`.
    """
    session = _session(path, threads=1)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        shapes = [f"{each.name} {each.shape}" for each in (*inputs, *outputs)]
        raise ModelFileError(path, f"is not a model of an image and its vector: {shapes}")
    contract = _contract(path, session, inputs[0], outputs[0])
    alone = contract.batch in (None, 1)
    if not alone:  # its images come together: all processors compute them
        session = _session(path, threads=0)

    def run(images: Array) -> Array:
        (found,) = session.run(None, {inputs[0].name: images})
        return np.asarray(found)

    return Engine(contract, run, alone)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Of so many threads, 0: one for each processor.

    How ONNX Runtime splits a sum among threads, and among the images of a batch, shows in the
    last bits. With one thread for an image these are always the same; other threads compute
    other images.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a type of its own for each fault
        raise ModelFileError(path, f"ONNX Runtime does not open it: {error}") from error


def _contract(path: Path, session: Any, taken: Any, given: Any) -> Contract:
    sizes = [size if isinstance(size, int) else None for size in taken.shape]
    if taken.type not in _DTYPES or len(sizes) != 4 or 3 not in (sizes[1], sizes[3]):
        raise ModelFileError(path, f"takes {taken.type} {taken.shape}, not images in RGB")
    layout = "NHWC" if sizes[3] == 3 else "NCHW"
    height, width = sizes[1:3] if layout == "NHWC" else sizes[2:4]
    spec, whitened = _stated(path, session.get_modelmeta().custom_metadata_map)
    return Contract(
        layout=layout,
        dtype=_DTYPES[taken.type],
        batch=sizes[0],
        size=(height, width),
        minimum=spec.minimum_size if spec else 1,
        dimension=given.shape[1] if isinstance(given.shape[1], int) else None,
        whitened=whitened,
    )


def _stated(path: Path, metadata: Mapping[str, str]) -> tuple[NetVLADSpec | None, bool | None]:
    """The spec that the file records, and whether the net ends with a whitening."""
    try:
        if "spec" in metadata:
            spec = NetVLADSpec.from_dict(json.loads(metadata["spec"]))
            return spec, spec.whitening > 0
        if "layouts" in metadata:
            return None, "WPCA" in json.loads(metadata["layouts"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFileError(path, f"its metadata are not those of a NetVLAD: {error}") from error
    return None, None
