from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from netvlad_keras.preprocess import ImageError, Pixels, load_image, load_images

Array = npt.NDArray[Any]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def picture(height: int = 4, width: int = 6) -> Pixels:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)


def row(*values: int, dtype: str = "uint8") -> Array:
    return np.array([values], dtype)


# What is refused.


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("this is no picture")


def truncated_png(path: Path) -> None:
    Image.fromarray(picture(64, 64)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:3000])


def truncated_jpeg(path: Path) -> None:
    Image.fromarray(picture(64, 64)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


def broken_checksum(path: Path) -> None:
    Image.fromarray(picture()).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[content.index(b"IHDR") + 18] ^= 0xFF
    path.write_bytes(content)


def integers_32_bit(path: Path) -> None:
    Image.fromarray(row(1, 70000, dtype="int32")).save(path, "TIFF")


def folder(path: Path) -> None:
    path.mkdir()


def absent(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (absent, "No such file or directory"),
        (folder, "Is a directory"),
        (empty, "not an image file that Pillow can identify"),
        (text, "not an image file that Pillow can identify"),
        (truncated_png, "truncated"),
        (truncated_jpeg, "truncated"),
        (broken_checksum, "not an image file|broken"),
        (integers_32_bit, "32-bit integers, whose range is unknown"),
    ],
)
def test_a_file_that_is_no_usable_image_is_named(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "street.img"
    make(path)
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(path)
    assert caught.value.source == str(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ImageError, match="more pixels than Pillow agrees to decode") as caught:
        load_image(path)
    assert caught.value.source == str(path)


def test_a_truncated_pillow_image_is_refused_by_its_file_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    truncated_png(path)
    with Image.open(path) as image, pytest.raises(ImageError, match=r"cut\.png: .*truncated"):
        load_image(image)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(5, np.uint8), "H×W, H×W×1"),
        (np.zeros((4, 5, 2), np.uint8), "H×W, H×W×1"),
        (np.zeros((3, 4, 5), np.uint8), "H×W, H×W×1"),
        (np.zeros((1, 4, 5, 3), np.uint8), "H×W, H×W×1"),
        (np.zeros((0, 5, 3), np.uint8), "with pixels in it"),
        (np.zeros((4, 5), bool), "uint8, or float in 0 to 255"),
        (np.zeros((4, 5), np.uint16), "uint8, or float in 0 to 255"),
        (np.zeros((4, 5), np.int64), "uint8, or float in 0 to 255"),
        (np.zeros((4, 5), complex), "uint8, or float in 0 to 255"),
        (np.array([[1.0, np.nan]]), "NaN or infinity"),
        (np.array([[1.0, np.inf]]), "NaN or infinity"),
        (np.array([[-0.5, 9.0]]), "values from -0.5 to 9; 0 to 255"),
        (np.array([[0.0, 255.5]], np.float32), "values from 0 to 255.5"),
        (np.array([[0.0, 1.0]]), "values up to 1, most likely scaled to 0..1"),
        (np.array([[0.0, 0.25]]), "values up to 0.25, most likely"),
    ],
)
def test_an_array_whose_range_or_shape_cannot_be_told_is_refused(array: Array, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(array)
    assert caught.value.source == f"{array.dtype} array of shape {array.shape}"


@pytest.mark.parametrize(
    "sizes",
    [
        {"size": (4, 4), "shorter_side": 4},
        {"shorter_side": 4, "longer_side": 4},
        {"size": (0, 4)},
        {"size": (4,)},
        {"size": (4, 4, 3)},
        {"shorter_side": 0},
        {"longer_side": -1},
    ],
)
def test_sizes_that_make_no_sense_are_the_callers_error(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="size") as caught:
        load_image(picture(), **sizes)
    assert not isinstance(caught.value, ImageError)


@pytest.mark.parametrize("source", [None, 3, b"query.jpg", [[1, 2], [3, 4]]])
def test_another_kind_of_source_is_a_type_error(source: Any) -> None:
    with pytest.raises(TypeError, match="a path, a Pillow image or an array"):
        load_image(source)


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("query.jpg", "truncated")))
    assert (error.source, error.reason, str(error)) == (
        "query.jpg",
        "truncated",
        "query.jpg: truncated",
    )


SAMPLES: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("file_format", SAMPLES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cut=st.floats(0.0, 1.0),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3),
)
def test_damaged_bytes_give_an_image_or_an_image_error(
    file_format: str, cut: float, edits: list[tuple[float, int]], tmp_path: Path
) -> None:
    path = tmp_path / "damaged"
    Image.fromarray(picture(24, 16)).save(path, file_format, **SAMPLES[file_format])
    content = bytearray(path.read_bytes())
    for place, value in edits:
        content[int(place * len(content))] = value
    path.write_bytes(content[: int(cut * len(content)) + 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on broken metadata
        with contextlib.suppress(ImageError):  # any other exception fails the test
            assert load_image(path).shape[2:] == (3,)


# What each kind of image becomes.


def palette_with_transparency(index: int | None = None) -> Image.Image:
    image = Image.fromarray(row(0, 1, 2, 3)).convert("P")
    image.putpalette([*RED, *GREEN, *BLUE, *WHITE])
    image.putdata([0, 1, 2, 3])
    image.info["transparency"] = bytes([0, 128, 255, 255]) if index is None else index
    return image


def one_bit() -> Image.Image:
    return Image.fromarray(row(0, 255)).convert("1")


def grey_16_bit() -> Image.Image:
    return Image.fromarray(row(0, 255, 256, 51455, 65535, dtype="uint16"))


def with_alpha(mode: str, pixels: list[tuple[int, ...]]) -> Image.Image:
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


@pytest.mark.parametrize(
    ("image", "file_format", "expected"),
    [
        (Image.fromarray(row(0, 7, 255)), "PNG", [(0,) * 3, (7,) * 3, (255,) * 3]),
        (one_bit(), "PNG", [(0,) * 3, (255,) * 3]),
        (grey_16_bit(), "PNG", [(v,) * 3 for v in (0, 0, 1, 200, 255)]),
        (grey_16_bit(), "TIFF", [(v,) * 3 for v in (0, 0, 1, 200, 255)]),
        (grey_16_bit(), "PPM", [(v,) * 3 for v in (0, 0, 1, 200, 255)]),
        (palette_with_transparency(), "PNG", [RED, GREEN, BLUE, WHITE]),
        (palette_with_transparency(index=1), "GIF", [RED, GREEN, BLUE, WHITE]),
        (with_alpha("LA", [(9, 0), (8, 255)]), "PNG", [(9,) * 3, (8,) * 3]),
        (with_alpha("RGBA", [(9, 8, 7, 0), (1, 2, 3, 90)]), "PNG", [(9, 8, 7), (1, 2, 3)]),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF", [RED]),
        (Image.new("CMYK", (1, 1), (0, 0, 0, 255)), "TIFF", [(0, 0, 0)]),
        (Image.new("CMYK", (16, 16), (255, 0, 255, 0)), "JPEG", [GREEN] * 16),
        (Image.fromarray(row(0, 50, 255).astype(np.float32)), "TIFF", [(0,) * 3, (50,) * 3, WHITE]),
    ],
)
def test_every_mode_becomes_rgb(
    image: Image.Image, file_format: str, expected: list[tuple[int, ...]], tmp_path: Path
) -> None:
    path = tmp_path / "image"
    image.save(path, file_format)
    pixels = load_image(path)
    assert pixels.dtype == np.uint8
    assert [tuple(pixel) for pixel in pixels[0]] == expected


@pytest.mark.parametrize(
    ("mode", "pixels", "expected"),
    [
        ("RGBa", [(50, 25, 0, 128)], [(99, 49, 0)]),
        ("La", [(50, 128)], [(99, 99, 99)]),
        ("PA", [(7, 128)], [(7, 7, 7)]),
        ("RGBX", [(7, 8, 9, 10)], [(7, 8, 9)]),
        ("YCbCr", [(90, 128, 128)], [(90, 90, 90)]),
        ("HSV", [(0, 255, 255)], [RED]),
    ],
)
def test_modes_that_only_memory_holds(
    mode: str, pixels: list[tuple[int, ...]], expected: list[tuple[int, ...]]
) -> None:
    image = with_alpha({"PA": "LA", "La": "LA", "RGBa": "RGBA"}.get(mode, mode), pixels)
    if mode == "PA":
        image = image.convert("PA")
    elif image.mode != mode:  # premultiplied: the stored values themselves, not converted
        image = Image.frombytes(mode, image.size, image.tobytes())
    assert [tuple(pixel) for pixel in load_image(image)[0]] == expected


def test_a_float_tiff_scaled_to_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scaled.tif"
    Image.fromarray(np.array([[0.0, 1.0]], np.float32)).save(path)
    with pytest.raises(ImageError, match=r"scaled\.tif: .*most likely scaled to 0..1"):
        load_image(path)


def test_a_jpeg_is_what_libjpeg_decodes(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(picture(40, 30)).save(path)
    with Image.open(path) as image:
        decoded = np.asarray(image)
    assert np.array_equal(load_image(path), decoded)
    assert np.array_equal(load_image(str(path)), decoded)


def test_the_first_frame_of_several_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "frames.gif"
    frames = [Image.new("RGB", (3, 2), colour) for colour in (BLUE, RED)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (load_image(path) == BLUE).all()


UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
# EXIF tag 0x0112: how the stored rows and columns lie, as the inverse of showing them.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation])).save(path, exif=exif)

    assert np.array_equal(load_image(path)[..., 0], UPRIGHT)
    assert np.array_equal(load_image(path, upright=False)[..., 0], STORED[orientation])
    with Image.open(path) as image:
        assert np.array_equal(load_image(image)[..., 0], UPRIGHT)
        assert np.array_equal(load_image(ImageOps.exif_transpose(image))[..., 0], UPRIGHT)


# Arrays.


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
def test_arrays_of_every_layout(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)).reshape(shape) * 9).astype(dtype)
    pixels = load_image(array)
    colours = array[..., None] if array.ndim == 2 else array[..., :3]
    assert pixels.shape == (2, 3, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.broadcast_to(colours, (2, 3, 3)))


def test_floats_are_rounded_to_the_nearest() -> None:
    array = np.array([[0.4, 0.6, 254.4, 254.6, 255.0]])
    assert load_image(array)[0, :, 0].tolist() == [0, 1, 254, 255, 255]


def test_a_black_float_image_is_black_in_either_scale() -> None:
    assert not load_image(np.zeros((2, 2))).any()


def test_alpha_of_a_float_array_plays_no_part_in_its_range() -> None:
    array = np.full((1, 1, 4), 200.0)
    array[..., 3] = 1000.0
    assert load_image(array).tolist() == [[[200, 200, 200]]]


def test_what_comes_back_is_the_callers_own() -> None:
    array = picture()
    pixels = load_image(array)
    pixels[:] = 0
    assert array.any()
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert load_image(array[:, ::-1]).flags.c_contiguous


# Resizing.


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, (30, 50)),
        ({"size": (7, 9)}, (7, 9)),
        ({"shorter_side": 15}, (15, 25)),
        ({"longer_side": 25}, (15, 25)),
        ({"shorter_side": 31}, (31, 52)),
        ({"longer_side": 51}, (31, 51)),
        ({"longer_side": 1}, (1, 1)),
    ],
)
def test_sizes(sizes: dict[str, Any], expected: tuple[int, int]) -> None:
    assert load_image(picture(30, 50), **sizes).shape == (*expected, 3)
    turned = {"size": expected[::-1]} if "size" in sizes else sizes
    assert load_image(picture(50, 30), **turned).shape == (*expected[::-1], 3)


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    path = tmp_path / "portrait.jpg"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture(30, 50)).save(path, exif=exif)
    assert load_image(path, size=(25, 15)).shape == (25, 15, 3)
    assert load_image(path).shape == (50, 30, 3)


def test_shrinking_averages_with_a_widened_triangle() -> None:
    """Halving weighs the four nearest pixels 1, 3, 3, 1; at the border what is there."""
    values = row(0, 100, 200, 100, 0, 40)
    shrunk = load_image(np.repeat(values, 2, axis=0), size=(2, 3))
    expected = [
        (3 * 0 + 3 * 100 + 200) / 7,
        (100 + 3 * 200 + 3 * 100 + 0) / 8,
        (100 + 3 * 0 + 3 * 40) / 7,
    ]
    assert shrunk[0, :, 0].tolist() == [round(value) for value in expected]


def test_the_inputs_of_the_reference_outputs_come_out_to_the_bit(shared_data: Path) -> None:
    for name in ("query", "db1", "db2"):
        pixels = load_image(shared_data / f"images/netvlad_keras/{name}.jpg", size=(96, 128))
        assert np.array_equal(pixels, np.load(shared_data / f"netvlad/image_{name}_96x128.npy"))


# Batches.


def test_a_batch_is_each_image_stacked(tmp_path: Path) -> None:
    path = tmp_path / "first.png"
    Image.fromarray(picture()).save(path)
    batch = load_images([path, Image.fromarray(picture()), picture()], size=(5, 7))
    assert batch.shape == (3, 5, 7, 3)
    assert batch.dtype == np.uint8
    for pixels in batch:
        assert np.array_equal(pixels, load_image(picture(), size=(5, 7)))


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.fromarray(picture(8, 9)).save(path)
    with pytest.raises(ImageError, match=r"odd\.png: 8×9, but the first of the batch is 4×6"):
        load_images([picture(), path])


def test_a_broken_image_in_a_batch_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    truncated_png(path)
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_images([picture(), path])


def test_an_empty_batch_and_a_single_path_are_the_callers_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        load_images([])
    with pytest.raises(TypeError, match="several sources"):
        load_images("query.jpg")


def test_batch_options_reach_every_image(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture(30, 50)).save(path, exif=exif)
    assert load_images([path]).shape == (1, 50, 30, 3)
    assert load_images([path], upright=False).shape == (1, 30, 50, 3)
    assert load_images([path], shorter_side=15).shape == (1, 25, 15, 3)
    assert load_images([path], longer_side=25).shape == (1, 25, 15, 3)


@pytest.mark.parametrize("options", [{"size": (1, 10**11)}, {"shorter_side": 3 * 10**9}])
def test_sizes_that_no_image_can_have(options: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="cannot be resized to"):
        load_image(np.zeros((4, 6, 3), np.uint8), **options)
