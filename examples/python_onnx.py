"""A photograph to its NetVLAD descriptor, with onnxruntime, NumPy and Pillow alone.

    python examples/python_onnx.py model.onnx query.jpg --output query.npy

Nothing of this project is imported, so this file is all that another project has to copy.
The pixels are those of `netvlad-describe`, and so is the descriptor but for the last bits, which
in ONNX Runtime depend on the number of threads.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def photograph(path: str) -> Any:
    """uint8 [height, width, 3]: RGB, 0 to 255, upright; no mean, no scaling, no resizing."""
    with Image.open(path) as image:
        if image.mode[0] in "IF":  # Pillow would clip, not scale
            raise ValueError(f"{path}: more than 8 bits a channel: convert it to 8 bits first")
        upright = ImageOps.exif_transpose(image)
    # By way of RGBA: the colours of transparent pixels stay what they are, nothing is composited.
    return np.asarray(upright.convert("RGBA").convert("RGB"))


def describe(model: str, pixels: Any) -> Any:
    """float32 [dimension], of length 1: the smaller the L2 distance, the more alike the places."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    if taken.shape[1] == 3:  # a file converted with --layout nchw
        pixels = pixels.transpose(2, 0, 1)
    dtype = np.uint8 if taken.type == "tensor(uint8)" else np.float32
    return session.run(["descriptor"], {taken.name: pixels[None].astype(dtype)})[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("image")
    parser.add_argument("--output", metavar="FILE.npy", help="default: printed")
    options = parser.parse_args()
    descriptor = describe(options.model, photograph(options.image))
    if options.output:
        np.save(options.output, descriptor)
    else:
        print(*descriptor)


if __name__ == "__main__":
    main()
