"""The curve of recall@N as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from netvlad_keras.recall import AT, Recall
from netvlad_keras.results import replacing

__all__ = ["draw"]

_SIZE = (960, 640)
_FRAME = (90, 60, 930, 560)  # left, top, right, bottom
_INK, _GREY, _RASTER, _BLUE = "#1a1a1a", "#767676", "#dddddd", "#1764ab"


def draw(recall: Recall, path: Path, title: str = "") -> None:
    """Write a PNG: recall in percent over N, its values at 1, 5, 10 and 20, and chance."""
    picture = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(22), ImageFont.load_default(16)
    left, top, right, bottom = _FRAME
    pen.text((left, 18), title or "recall@N", _INK, large)
    depth = len(recall.curve)
    for percent in range(0, 101, 20):
        y = _point(0, percent / 100, depth)[1]
        pen.line((left, y, right, y), _RASTER)
        pen.text((left - 12, y), f"{percent} %", _INK, small, anchor="rm")
    pen.line((left, top, left, bottom, right, bottom), _INK, 2)
    pen.text(((left + right) / 2, bottom + 52), "N, number of matches", _INK, small, anchor="mm")
    _line(pen, recall.chance, _GREY, 2)
    _line(pen, recall.curve, _BLUE, 3)
    end = _point(depth, recall.chance[-1], depth)
    pen.text((end[0], end[1] - 6), "chance", _GREY, small, anchor="rd")
    for n, value in recall.at(AT).items():
        x, y = _point(n, value, depth)
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), _BLUE)
        below = y < top + 40
        label = f"{100 * value:.1f}"
        pen.text((x, y + 12 if below else y - 12), label, _BLUE, small, "ma" if below else "md")
        pen.text((x, bottom + 10), str(n), _INK, small, anchor="ma")
    with replacing(path, shared=True) as draft:
        picture.save(draft, "PNG")


def _line(pen: ImageDraw.ImageDraw, values: Sequence[float], colour: str, width: int) -> None:
    points = [_point(n, value, len(values)) for n, value in enumerate(values, start=1)]
    if len(points) > 1:
        pen.line(points, colour, width, joint="curve")


def _point(n: float, value: float, depth: int) -> tuple[float, float]:
    left, top, right, bottom = _FRAME
    across = n / (depth + 0.5)
    return left + across * (right - left), bottom - value * (bottom - top)
