"""Doubles a picture with LapSRN: `python examples/super_resolution.py MODEL.onnx PICTURE OUT.png`.

The net reads Y of MATLAB's YCbCr (16 to 235) over 255, one channel; Cb and Cr are enlarged
bicubically. With `--psnr` the picture is halved first and both enlargements are compared with it.
Needs ONNX Runtime, NumPy and Pillow.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

#: ITU-R BT.601 as MATLAB's rgb2ycbcr has it, for values from 0 to 255.
TO_YCBCR = (
    np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
    / 255
)
OFFSET = np.array([16.0, 128.0, 128.0])


def to_ycbcr(rgb: Array) -> Array:
    """H×W×3, 0 to 255, as MATLAB's rgb2ycbcr without its rounding."""
    y: Array = rgb.astype(np.float64) @ TO_YCBCR.T + OFFSET
    return y


def to_rgb(ycbcr: Array) -> Array:
    """The way back, uint8."""
    rgb = (ycbcr - OFFSET) @ np.linalg.inv(TO_YCBCR).T
    pixels: Array = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return pixels


def doubled(session: Any, picture: Image.Image) -> Image.Image:
    """Y through the net, the colours bicubically."""
    small = to_ycbcr(np.asarray(picture.convert("RGB")))
    (entry,), (output,) = session.get_inputs(), session.get_outputs()
    luma = (small[..., 0] / 255).astype(np.float32)[None, ..., None]
    (found,) = session.run([output.name], {entry.name: luma})
    large = np.stack([found[0, ..., 0] * 255.0, *map(_bicubic, small[..., 1:].T.swapaxes(1, 2))], 2)
    return Image.fromarray(to_rgb(large))


def _bicubic(channel: Array) -> Array:
    image = Image.fromarray(channel.astype(np.float32))
    large: Array = np.asarray(
        image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC)
    )
    return large


def psnr(one: Image.Image, other: Image.Image, border: int = 2) -> float:
    """Of Y, in dB, a border left out, as the super-resolution papers count it."""
    first, second = (to_ycbcr(np.asarray(each.convert("RGB")))[..., 0] for each in (one, other))
    inside = (slice(border, -border),) * 2
    error = float(np.mean(np.square(first[inside] - second[inside])))
    return 10 * np.log10(255**2 / error) if error else float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="LapSRN_x2 as netvlad-convert makes it")
    parser.add_argument("picture", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--psnr", action="store_true", help="halve the picture first, and compare")
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(options.model)
    picture = Image.open(options.picture).convert("RGB")
    if not options.psnr:
        doubled(session, picture).save(options.output)
        return
    whole = picture.crop((0, 0, picture.width // 2 * 2, picture.height // 2 * 2))
    half = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.BICUBIC)
    large = doubled(session, half)
    large.save(options.output)
    plain = half.resize(whole.size, Image.Resampling.BICUBIC)
    print(f"LapSRN {psnr(large, whole):.2f} dB, bicubic {psnr(plain, whole):.2f} dB")


if __name__ == "__main__":
    main()
