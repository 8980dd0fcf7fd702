"""conv, convt and pool against loops that follow MatConvNet's definitions word by word."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy.signal import correlate

from converters.checkpoint import Array
from verify import windows
from verify.windows import conv, convt, pool

RANDOM = np.random.default_rng(7)


def numbers(*shape: int) -> Array:
    return RANDOM.standard_normal(shape)


def looped_conv(
    x: Array,
    filters: Array,
    pad: tuple[int, ...] = (0, 0, 0, 0),
    stride: tuple[int, int] = (1, 1),
    dilate: tuple[int, int] = (1, 1),
) -> Array:
    """One output element at a time, for one image; input outside the image is zero."""
    height, width, channels = x.shape
    tall, wide, depth, count = filters.shape
    top, bottom, left, right = pad
    rows = (height + top + bottom - (tall - 1) * dilate[0] - 1) // stride[0] + 1
    columns = (width + left + right - (wide - 1) * dilate[1] - 1) // stride[1] + 1
    y = np.zeros((rows, columns, count))
    for r, c, o in np.ndindex(y.shape):
        first = (o // (count // (channels // depth))) * depth
        for i, j, k in np.ndindex(tall, wide, depth):
            row = r * stride[0] + i * dilate[0] - top
            column = c * stride[1] + j * dilate[1] - left
            if 0 <= row < height and 0 <= column < width:
                y[r, c, o] += x[row, column, first + k] * filters[i, j, k, o]
    return y


def looped_pool(
    x: Array,
    size: tuple[int, int],
    method: str,
    stride: tuple[int, int] = (1, 1),
    pad: tuple[int, ...] = (0, 0, 0, 0),
) -> Array:
    """The window is clipped to the image, then its maximum or mean is taken."""
    height, width, channels = x.shape
    rows = (height + pad[0] + pad[1] - size[0]) // stride[0] + 1
    columns = (width + pad[2] + pad[3] - size[1]) // stride[1] + 1
    y = np.zeros((rows, columns, channels))
    for r, c in np.ndindex(rows, columns):
        top, left = r * stride[0] - pad[0], c * stride[1] - pad[2]
        inside = x[max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
        y[r, c] = inside.max(axis=(0, 1)) if method == "max" else inside.mean(axis=(0, 1))
    return y


# ---------------------------------------------------------------- failure paths


@pytest.mark.parametrize(
    ("x", "filters", "options", "reason"),
    [
        ((1, 4, 4, 5), (3, 3, 2, 4), {}, "4 filters of depth 2 cannot share 5 channels"),
        ((1, 4, 4, 2), (3, 3, 3, 4), {}, "4 filters of depth 3 cannot share 2 channels"),
        ((1, 4, 4, 6), (3, 3, 2, 4), {}, "4 filters of depth 2 cannot share 6 channels"),
        ((1, 2, 9, 1), (3, 3, 1, 1), {}, "a window of 3×3 is larger than its input of 2×9"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"dilate": (2, 2)}, "a window of 5×5 is larger"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"pad": (1, 1)}, "pad is (1, 1), it must be 4 whole"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"stride": (0, 1)}, "whole numbers from 1 on"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"stride": (1.5, 1)}, "stride is (1.5, 1)"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"pad": (-1, 0, 0, 0)}, "whole numbers from 0 on"),
    ],
)
def test_conv_refuses(
    x: tuple[int, ...], filters: tuple[int, ...], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        conv(np.zeros(x), np.zeros(filters), **options)


@pytest.mark.parametrize("operator", [conv, convt])
def test_a_bias_of_the_wrong_length_is_not_broadcast(operator: Any) -> None:
    with pytest.raises(ValueError, match="a bias of 1 numbers for 2 channels"):
        operator(np.zeros((1, 3, 3, 2)), np.zeros((1, 1, 2, 2)), np.zeros(1))


@pytest.mark.parametrize(
    ("filters", "options", "reason"),
    [
        ((2, 2, 1, 3), {}, "3 filters in 1 groups cannot take 4 channels"),
        ((2, 2, 1, 4), {"numGroups": 3}, "4 filters in 3 groups cannot take 4 channels"),
        ((2, 2, 1, 4), {"crop": (2, 2, 0, 0)}, "leaves nothing of 4×4"),
        ((2, 2, 1, 4), {"crop": (0, 0, 9, 0)}, "leaves nothing of 4×4"),
        ((2, 2, 1, 4), {"upsample": (0, 1)}, "upsample is (0, 1)"),
    ],
)
def test_convt_refuses(filters: tuple[int, ...], options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        convt(np.zeros((1, 3, 3, 4)), np.zeros(filters), **options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"pool": (5, 2)}, "a window of 5×2 is larger than its input of 4×4"),
        ({"pool": (2, 2), "pad": (2, 0, 0, 0)}, "a pad of (2, 0, 0, 0) needs a larger pool"),
        ({"pool": (2, 2), "method": "min"}, "no pooling method 'min'"),
        ({"pool": (2,)}, "pool is (2,)"),
    ],
)
def test_pool_refuses(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        pool(np.zeros((1, 4, 4, 1)), **options)


# ---------------------------------------------------------------- conv

CONVS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("plain", (5, 6, 3), (3, 3, 3, 4), {}),
    ("1x1", (5, 6, 3), (1, 1, 3, 4), {}),
    ("whole input", (5, 6, 3), (5, 6, 3, 4), {}),
    ("tall filter", (7, 6, 2), (4, 1, 2, 3), {}),
    ("pad", (5, 6, 3), (3, 3, 3, 4), {"pad": (1, 1, 1, 1)}),
    ("uneven pads", (5, 6, 2), (3, 2, 2, 3), {"pad": (2, 0, 1, 3)}),
    ("bottom and right", (5, 6, 2), (3, 3, 2, 3), {"pad": (0, 1, 0, 2)}),
    ("pad beyond the filter", (3, 3, 1), (2, 2, 1, 1), {"pad": (3, 3, 3, 3)}),
    ("stride", (9, 8, 3), (3, 3, 3, 2), {"stride": (2, 2)}),
    ("uneven stride, rest left over", (10, 11, 2), (3, 3, 2, 2), {"stride": (3, 4)}),
    ("dilation", (9, 10, 2), (3, 3, 2, 3), {"dilate": (2, 3)}),
    ("groups", (5, 6, 6), (3, 3, 2, 9), {}),
    ("one channel each", (5, 6, 4), (3, 3, 1, 4), {"pad": (1, 1, 1, 1)}),
    (
        "all at once",
        (13, 12, 4),
        (3, 2, 2, 6),
        {"pad": (2, 1, 0, 3), "stride": (2, 3), "dilate": (2, 1)},
    ),
]


@pytest.mark.parametrize(("shape", "filters", "options"), [c[1:] for c in CONVS])
def test_conv_is_the_loop(
    shape: tuple[int, ...], filters: tuple[int, ...], options: dict[str, Any]
) -> None:
    x, w, b = numbers(2, *shape), numbers(*filters), numbers(filters[3])
    expected = np.stack([looped_conv(image, w, **options) + b for image in x])
    np.testing.assert_allclose(conv(x, w, b, **options), expected, atol=1e-12)


def test_conv_is_a_correlation_not_a_flipped_convolution() -> None:
    x, w = numbers(6, 7, 3), numbers(3, 2, 3, 1)
    expected = correlate(x, w[..., 0], mode="valid")
    np.testing.assert_allclose(conv(x[None], w)[0], expected, atol=1e-12)


def test_conv_by_hand() -> None:
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    w = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    y = conv(x, w, np.array([0.5]))
    assert y[0, ..., 0].tolist() == [[5421.5, 6532.5], [8754.5, 9865.5]]


@pytest.mark.parametrize(("shape", "filters", "options"), [c[1:] for c in CONVS])
@pytest.mark.parametrize("limit", [1, 40, 300])
def test_conv_does_not_depend_on_strips_and_blocks(
    shape: tuple[int, ...],
    filters: tuple[int, ...],
    options: dict[str, Any],
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, w = numbers(3, *shape), numbers(*filters)
    whole = conv(x, w, **options)
    monkeypatch.setattr(windows, "_STRIP", limit)
    monkeypatch.setattr(windows, "_FILTERS", limit)
    np.testing.assert_allclose(conv(x, w, **options), whole, atol=1e-12)


def test_conv_takes_matlabs_axes_order_and_doubles() -> None:
    x, w = numbers(1, 5, 6, 3), numbers(3, 3, 3, 4)
    y = conv(x, np.asfortranarray(w), pad=(1.0, 0.0, 1.0, 0.0), stride=(2.0, 1.0))
    np.testing.assert_allclose(y, conv(x, w, pad=(1, 0, 1, 0), stride=(2, 1)), atol=1e-12)


# ---------------------------------------------------------------- convt


@pytest.mark.parametrize(
    ("shape", "filters", "options"),
    [
        ((3, 4, 2), (3, 3, 5, 2), {}),
        ((3, 4, 1), (4, 4, 1, 1), {"upsample": (2, 2), "crop": (1, 1, 1, 1)}),
        ((3, 4, 2), (3, 2, 3, 2), {"upsample": (2, 3), "crop": (1, 0, 0, 2)}),
        ((3, 4, 2), (1, 2, 3, 2), {"upsample": (3, 4)}),
        ((3, 4, 6), (3, 3, 2, 6), {"upsample": (2, 2), "numGroups": 3}),
    ],
    ids=["plain", "bilinear", "uneven", "gaps", "groups"],
)
def test_convt_is_the_transpose_of_conv(
    shape: tuple[int, ...], filters: tuple[int, ...], options: dict[str, Any]
) -> None:
    """<conv(v), x> = <v, convt(x)> for all v: conv with the crop as pad, upsample as stride."""
    x, w = numbers(2, *shape), numbers(*filters)
    y = convt(x, w, **options)
    v = numbers(*y.shape)
    pad, stride = options.get("crop", (0, 0, 0, 0)), options.get("upsample", (1, 1))
    back = conv(v, w, pad=pad, stride=stride)
    assert back.shape == x.shape
    assert np.vdot(back, x) == pytest.approx(np.vdot(v, y), abs=1e-10)


def looped_convt(
    x: Array, filters: Array, upsample: tuple[int, int], crop: tuple[int, ...], groups: int
) -> Array:
    """Each input element adds its filter to the output, for one image."""
    (height, width, channels), (tall, wide, count, _) = x.shape, filters.shape
    full = np.zeros(
        (upsample[0] * (height - 1) + tall, upsample[1] * (width - 1) + wide, count * groups)
    )
    for r, c, k in np.ndindex(height, width, channels):
        first = k // (channels // groups) * count
        for i, j, o in np.ndindex(tall, wide, count):
            full[upsample[0] * r + i, upsample[1] * c + j, first + o] += (
                x[r, c, k] * filters[i, j, o, k]
            )
    return full[crop[0] : len(full) - crop[1], crop[2] : full.shape[1] - crop[3]]


@pytest.mark.parametrize(
    ("filters", "upsample", "crop", "groups"),
    [
        ((3, 3, 5, 4), (1, 1), (0, 0, 0, 0), 1),
        ((4, 3, 2, 4), (2, 3), (2, 0, 1, 3), 1),
        ((2, 5, 3, 4), (3, 2), (0, 1, 2, 1), 2),
        ((3, 2, 1, 4), (1, 2), (1, 1, 0, 1), 4),
    ],
    ids=["plain", "uneven crop", "2 groups", "4 groups"],
)
def test_convt_is_the_loop(
    filters: tuple[int, ...], upsample: tuple[int, int], crop: tuple[int, ...], groups: int
) -> None:
    x, w, b = numbers(2, 3, 4, 4), numbers(*filters), numbers(filters[2] * groups)
    expected = np.stack([looped_convt(image, w, upsample, crop, groups) + b for image in x])
    y = convt(x, w, b, upsample=upsample, crop=crop, numGroups=groups)
    np.testing.assert_allclose(y, expected, atol=1e-12)


def test_convt_by_hand() -> None:
    x = np.array([[1.0, 10.0]]).reshape(1, 1, 2, 1)
    w = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    y = convt(x, w, np.array([0.5]), upsample=(1, 2), crop=(0, 0, 1, 0))
    assert y[0, 0, :, 0].tolist() == [2.5, 13.5, 20.5, 30.5]


def test_convt_groups_take_their_own_channels() -> None:
    x = np.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 1, 1, 4)
    w = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    assert convt(x, w, numGroups=2).ravel().tolist() == [21.0, 4300.0]


# ---------------------------------------------------------------- pool


@pytest.mark.parametrize("method", ["max", "avg"])
@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((2, 2), {"stride": (2, 2)}),
        ((3, 3), {"stride": (2, 2), "pad": (0, 1, 0, 1)}),
        ((3, 2), {"stride": (1, 3), "pad": (2, 1, 1, 0)}),
        ((1, 1), {"stride": (2, 3)}),
        ((7, 6), {}),
    ],
    ids=["2x2", "overlapping", "uneven", "sampling", "whole"],
)
def test_pool_is_the_loop(method: str, size: tuple[int, int], options: dict[str, Any]) -> None:
    x = numbers(2, 7, 6, 3) - 5.0  # all negative: a padding of zeros would win the maximum
    expected = np.stack([looped_pool(image, size, method, **options) for image in x])
    y = pool(x, pool=size, method=method, **options)
    np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "pool_size", "stride", "pad", "expected"),
    [
        ((14, 14), (14, 14), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((14, 14), (3, 3), (2, 2), (0, 0, 0, 0), (6, 6)),
        ((14, 14), (3, 3), (2, 2), (0, 1, 0, 1), (7, 7)),
        ((7, 6), (2, 2), (2, 2), (0, 0, 0, 0), (3, 3)),
        ((7, 6), (2, 2), (2, 2), (0, 1, 1, 1), (4, 4)),
        ((5, 9), (1, 3), (3, 4), (0, 0, 2, 0), (2, 3)),
    ],
)
@pytest.mark.parametrize("method", ["max", "avg"])
def test_windows_that_do_not_fit_whole_are_not_pooled(
    size: tuple[int, int],
    pool_size: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, ...],
    expected: tuple[int, int],
    method: str,
) -> None:
    y = pool(numbers(1, *size, 1), pool=pool_size, method=method, stride=stride, pad=pad)
    assert y.shape == (1, *expected, 1)


@pytest.mark.parametrize(
    ("pad", "expected"),
    [
        ((0, 1, 0, 1), [[2.5, 3.0], [3.5, 4.0]]),
        ((1, 0, 0, 0), [[1.5], [2.5]]),
        ((0, 0, 1, 1), [[2.0, 2.5, 3.0]]),
    ],
)
def test_averages_with_uneven_pads_by_hand(
    pad: tuple[int, ...], expected: list[list[float]]
) -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    assert pool(x, pool=(2, 2), method="avg", pad=pad)[0, ..., 0].tolist() == expected


def test_an_average_is_divided_by_what_lies_inside_the_image() -> None:
    x = np.array([[4.0, 8.0], [12.0, 16.0]]).reshape(1, 2, 2, 1)
    y = pool(x, pool=(2, 2), method="avg", pad=(1, 0, 1, 0))
    assert y[0, ..., 0].tolist() == [[4.0, 6.0], [8.0, 10.0]]


def test_what_does_not_fill_a_window_is_left_out() -> None:
    x = np.arange(5.0).reshape(1, 1, 5, 1)
    assert pool(x, pool=(1, 2), stride=(1, 2)).ravel().tolist() == [1.0, 3.0]


def test_a_maximum_does_not_hide_a_nan() -> None:
    x = np.array([1.0, np.nan]).reshape(1, 1, 2, 1)
    assert np.isnan(pool(x, pool=(1, 2))).all()
