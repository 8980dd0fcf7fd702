"""The descriptor of one photograph from every runtime that is here, and how far they lie apart.

    python examples/compare_runtimes.py model.onnx query.jpg [--program build/describe]

Prints 1 − cosine of each two. A file of a fixed size (`--fix-size HxW`), which OpenCV 4 needs,
has the photograph resized to it. A runtime that is not installed is left out; the C++ example is
one where --program says where it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from netvlad_keras import load_image

Array = NDArray[Any]

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def with_onnxruntime(model: str, images: Array) -> Array:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["descriptor"], {"image": images})[0])


def with_opencv(model: str, images: Array) -> Array:
    net = import_module("cv2").dnn.readNetFromONNX(model)
    net.setInput(images)
    return np.asarray(net.forward())


def with_openvino(model: str, images: Array, **settings: str) -> Array:
    compiled = import_module("openvino").Core().compile_model(model, "CPU", settings)
    return np.asarray(compiled(images)["descriptor"])


def with_program(program: str, model: str, images: Array) -> Array:
    """The C++ example, which takes a file of one RGB image."""
    with TemporaryDirectory() as folder:
        image, descriptor = Path(folder, "image.ppm"), Path(folder, "descriptor.f32")
        Image.fromarray(images[0].astype(np.uint8)).save(image)
        subprocess.run([program, model, str(image), str(descriptor)], check=True)
        return np.fromfile(descriptor, np.float32)[None]


def runtimes(program: str = "") -> dict[str, Callable[[str, Array], Array]]:
    """What is here, by name: (model, images) -> descriptors, float32 [batch, dimension]."""
    found: dict[str, Callable[[str, Array], Array]] = {"ONNX Runtime": with_onnxruntime}
    if program:
        found["C++"] = lambda model, images: with_program(program, model, images)
    if find_spec("cv2"):
        found["OpenCV"] = with_opencv
    if find_spec("openvino"):
        found["OpenVINO f32"] = lambda model, images: with_openvino(model, images, **FLOAT32)
        found["OpenVINO as it comes"] = with_openvino
    return found


def images_for(model: str, photograph: str) -> Array:
    """A batch of one in the size, layout and type that the file asks for."""
    taken = onnxruntime.InferenceSession(model).get_inputs()[0]
    channels_first = taken.shape[1] == 3
    height, width = taken.shape[2:] if channels_first else taken.shape[1:3]
    size = (height, width) if isinstance(height, int) else None
    images = load_image(photograph, size=size)[None]
    dtype = np.uint8 if taken.type == "tensor(uint8)" else np.float32
    return (images.transpose(0, 3, 1, 2).copy() if channels_first else images).astype(dtype)


def distance(one: Array, other: Array) -> float:
    """1 − cosine, in float64."""
    one, other = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(1 - one @ other / np.sqrt((one @ one) * (other @ other)))


def table(descriptors: Mapping[str, Array]) -> str:
    """Markdown: each against each."""
    lines = [
        "| 1 − cosine | " + " | ".join(descriptors) + " |",
        "|---" * (len(descriptors) + 1) + "|",
    ]
    for name, one in descriptors.items():
        cells = [
            "0" if np.array_equal(one, other) else f"{distance(one, other):.1e}"
            for other in descriptors.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("image")
    parser.add_argument("--program", default="", help="the C++ example, built")
    options = parser.parse_args()
    images = images_for(options.model, options.image)
    descriptors, failed = {}, 0
    for name, run in runtimes(options.program).items():
        try:
            descriptors[name] = run(options.model, images)
        except Exception as error:  # each has a type of its own
            failed = 1
            print(f"{name}: {error}", file=sys.stderr)
    print(table(descriptors))
    return failed


if __name__ == "__main__":
    sys.exit(main())
