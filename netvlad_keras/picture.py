"""The picture of a search: each query and its best matches side by side, with distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from netvlad_keras.errors import RetrievalError
from netvlad_keras.preprocess import ImageError, load_image
from netvlad_keras.results import replacing

__all__ = ["Found", "check", "draw"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

_CELL = (320, 240)  # width and height that an image is fitted into
_GAP = 16
_TEXT = 44  # height of the two lines below an image
_INK, _GREY, _EMPTY = "#1a1a1a", "#767676", "#eeeeee"


@dataclass(frozen=True, slots=True)
class Found:
    """A query's image, and its matches: image and L2 distance, nearest first."""

    query: Path
    matches: Sequence[tuple[Path, float]]


def check(path: Path) -> None:
    """Raise `RetrievalError` for a name that says no format of pictures."""
    if path.suffix.lower() not in _FORMATS:
        raise RetrievalError(f"{path}: a picture is {', '.join(_FORMATS)}")


def draw(found: Sequence[Found], path: Path) -> None:
    """Write a row for each query; an image that is gone by now leaves its place empty.

    The suffix says the format. Raises `RetrievalError` for another than `check` takes.
    """
    check(path)
    columns = 1 + max(len(row.matches) for row in found)
    width, height = _CELL[0] + _GAP, _CELL[1] + _GAP + _TEXT
    sheet = Image.new("RGB", (columns * width + 2 * _GAP, len(found) * height + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for y, row in enumerate(found):
        top = _GAP + y * height
        _cell(sheet, (_GAP, top), row.query, "query")
        pen.line([(_GAP + width - 1, top), (_GAP + width - 1, top + height - _GAP)], _GREY)
        for x, (match, distance) in enumerate(row.matches, start=1):
            label = f"{x}.  L2 {distance:.3f}"
            _cell(sheet, (2 * _GAP + x * width - _GAP // 2, top), match, label)
    with replacing(path, shared=True) as draft:
        sheet.save(draft, _FORMATS[path.suffix.lower()])


def _cell(sheet: Image.Image, corner: tuple[int, int], path: Path, label: str) -> None:
    """An image fitted into its cell, and below it the label and the name of the file."""
    x, y = corner
    pen = ImageDraw.Draw(sheet)
    try:
        image = Image.fromarray(load_image(path))
        image.thumbnail(_CELL, Image.Resampling.LANCZOS)
        sheet.paste(image, (x, y + _CELL[1] - image.height))  # above its label
    except ImageError:
        pen.rectangle((x, y, x + _CELL[0] - 1, y + _CELL[1] - 1), _EMPTY)
        pen.text((x + _CELL[0] // 2, y + _CELL[1] // 2), "not there any more", _GREY, anchor="mm")
    bold, small = ImageFont.load_default(18), ImageFont.load_default(14)
    pen.text((x, y + _CELL[1] + 4), label, _INK, bold)
    name = "".join(each if each.isprintable() else "�" for each in path.name)
    while len(name) > 4 and pen.textlength(name, small) > _CELL[0]:
        name = f"…{name[2:]}"
    pen.text((x, y + _CELL[1] + 26), name, _GREY, small)
