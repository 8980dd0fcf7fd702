"""Axes by their letters."""

from __future__ import annotations

import numpy as np
import pytest

from verify.axes import turned

ARRAY = np.arange(24, dtype=np.float32)


@pytest.mark.parametrize(
    ("shape", "source", "target", "expected"),
    [
        ((1, 2, 3, 4), "NCHW", "NHWC", (1, 3, 4, 2)),
        ((4, 3, 2, 1), "OIHW", "HWIO", (2, 1, 3, 4)),
        ((4, 6, 1, 1), "NDHW", "ND", (4, 6)),
        ((1, 1, 4, 6), "11IO", "IO", (4, 6)),
        ((4, 6), "KD", "DK", (6, 4)),
        ((2, 3, 4), "NKD", "N1KD", (2, 1, 3, 4)),
        ((2, 1, 3, 4), "N1KD", "NDK", (2, 4, 3)),
        ((1, 24, 1, 1), "1C11", "C", (24,)),
        ((24,), "K", "O", (24,)),
        ((12, 2), "ND", "NHWC", None),
        ((2, 12), "1C", "C", None),
        ((2, 3, 4), "NCHW", "NHWC", None),
        ((2, 3, 4), "NKD", "ND", None),
    ],
)
def test_axes_are_turned_by_name(
    shape: tuple[int, ...], source: str, target: str, expected: tuple[int, ...] | None
) -> None:
    array = ARRAY.reshape(shape)
    if expected is None:
        with pytest.raises(ValueError, match="has shape"):
            turned(array, source, target)
        return
    found = turned(array, source, target)
    assert found.shape == expected
    assert np.shares_memory(found, array)
    if len(target) > 1:
        np.testing.assert_array_equal(turned(found, target, source), array)


def test_values_go_where_their_letters_say() -> None:
    array = ARRAY.reshape(2, 3, 4)
    assert turned(array, "NKD", "N1DK")[1, 0, 3, 2] == array[1, 2, 3]
