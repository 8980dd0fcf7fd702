"""One runtime in a process of its own: `python -m benchmarks.runtimes NAME ARTIFACTS IMAGES OUT`.

IMAGES is a `.npy` of uint8 N×H×W×3. Each image is described by itself; the first, which allocates,
is done once more before the clock starts. Prints the milliseconds of each as JSON, and leaves the
descriptors N×D in OUT.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: One image, float32 1×H×W×3 from 0 to 255 -> its descriptor 1×D.
Describe = Callable[[Array], Any]

#: Exit codes: a library is not installed; the artifacts lack what is run.
ABSENT, LACKING = 3, 4
#: Of each runtime.
THREADS = 2


class Lacking(Exception):
    """The artifacts hold no such file, or this CPU cannot do it."""


def _onnx(artifacts: Path, file: str) -> Describe:
    import onnxruntime

    if not (artifacts / file).is_file():
        raise Lacking(f"no {file}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(artifacts / file), options, providers)
    (given,) = session.get_inputs()
    return lambda image: session.run(None, {given.name: image})[0]


def _savedmodel(artifacts: Path) -> Describe:
    tf = _tensorflow()
    loaded = tf.saved_model.load(str(artifacts / "saved_model"))
    serve = loaded.signatures["serving_default"]
    return lambda image: serve(image=tf.constant(image))["descriptor"].numpy()


def _keras(artifacts: Path) -> Describe:
    tf = _tensorflow()
    import keras

    import netvlad_keras  # noqa: F401 - registers the model

    model = tf.function(keras.saving.load_model(artifacts / "model.keras"))
    return lambda image: model(tf.constant(image), training=False).numpy()


def _tensorflow() -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def _pytorch(artifacts: Path, *, matmul: bool) -> Describe:
    import torch

    from benchmarks.peers import pytorch

    torch.set_num_threads(THREADS)
    net = pytorch.loaded(artifacts, matmul=matmul)

    def describe(image: Array) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(image.transpose(0, 3, 1, 2) / np.float32(255))).numpy()

    return describe


def _openvino(artifacts: Path, precision: str) -> Describe:
    import openvino

    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in able:
        raise Lacking("this CPU has no bfloat16")
    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": THREADS}
    compiled = core.compile_model(str(artifacts / "model.onnx"), "CPU", hints)
    return lambda image: compiled(image)[0].copy()


#: Name -> (what the table calls it, what opens it).
RUNTIMES: dict[str, tuple[str, Callable[[Path], Describe]]] = {
    "onnx": ("ONNX Runtime, model.onnx", functools.partial(_onnx, file="model.onnx")),
    "fp16": ("ONNX Runtime, model_fp16.onnx", functools.partial(_onnx, file="model_fp16.onnx")),
    "int8": ("ONNX Runtime, model_int8.onnx", functools.partial(_onnx, file="model_int8.onnx")),
    "savedmodel": ("TensorFlow, SavedModel", _savedmodel),
    "keras": ("Keras on TensorFlow", _keras),
    "hloc": ("PyTorch, as hloc writes it", functools.partial(_pytorch, matmul=False)),
    "matmul": ("PyTorch, VLAD as products", functools.partial(_pytorch, matmul=True)),
    "openvino": ("OpenVINO, f32", functools.partial(_openvino, precision="f32")),
    "bf16": ("OpenVINO, bf16", functools.partial(_openvino, precision="bf16")),
}


def main(name: str, artifacts: str, images: str, out: str) -> int:
    try:
        describe = RUNTIMES[name][1](Path(artifacts))
    except ModuleNotFoundError as error:
        print(json.dumps({"why": f"{error.name} is not installed"}))
        return ABSENT
    except Lacking as error:
        print(json.dumps({"why": str(error)}))
        return LACKING
    pictures = [image[None].astype(np.float32) for image in np.load(images)]
    describe(pictures[0])
    found, milliseconds = [], []
    for picture in pictures:
        started = time.perf_counter()
        found.append(np.asarray(describe(picture), np.float32))
        milliseconds.append(1000 * (time.perf_counter() - started))
    np.save(out, np.concatenate(found))
    print(json.dumps({"ms": milliseconds}))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    sys.exit(main(*sys.argv[1:]))
