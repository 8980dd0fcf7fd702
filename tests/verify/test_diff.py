"""`diff` by names, the inputs that two artifacts share, and how its answer is printed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.errors import ConversionError
from verify import listing
from verify.__main__ import main
from verify.align import Ambiguity, Matching, Pair
from verify.diff import diff, inputs, opened
from verify.runners.layered import Images
from verify.unnamed import Alignment, Outcome

Array = NDArray[Any]

IMAGES = np.ones((1, 2, 2, 3), np.float32)


@dataclass(frozen=True)
class Recorded:
    """An artifact whose values stand beforehand."""

    values: Mapping[str, Array] = field(default_factory=dict)
    takes: Images = field(default_factory=Images)
    kind: str = "recorded"
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def reads(self) -> Mapping[str, tuple[str, ...]]:
        return dict.fromkeys(self.values, ("image",))

    def run(self, images: Array) -> Iterator[tuple[str, Array]]:
        yield from self.values.items()


@pytest.mark.parametrize(
    ("second", "problems"),
    [
        ({"a": np.ones(3)}, {"b": "the second artifact has no such layer"}),
        (
            {"a": np.ones(3), "b": np.ones(2), "c": np.ones(1)},
            {"c": "the first artifact has no such layer"},
        ),
        ({"a": np.ones(4), "b": np.ones(2)}, {"a": "shapes (3,) and (4,)"}),
        ({"a": np.array([1, math.nan, 1]), "b": np.ones(2)}, {"a": "NaN or infinity"}),
        ({"a": np.ones(3), "b": np.ones(2)}, {}),
    ],
)
def test_by_name(second: Mapping[str, Array], problems: Mapping[str, str]) -> None:
    first: Any = Recorded({"a": np.ones(3), "b": np.ones(2)})
    other: Any = Recorded(second)
    found = list(diff(first, other, IMAGES))
    assert {row.layer: row.problem for row in found if row.problem} == problems
    assert listing.differences(found, 1e-6) is not bool(problems)


def taking(*sizes: int | None, dtype: str = "float32") -> Recorded:
    return Recorded(takes=Images(sizes, dtype))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (taking(1, 32, 32, 3), taking(1, 32, 64, 3), "1×32×64×3"),
        (taking(None, None, None, 3), taking(None, None, None, 1), "any×any×any×1"),
        (taking(1, None, None, None), taking(2, None, None, None), "2×any×any×any"),
    ],
)
def test_artifacts_that_share_no_input(first: Recorded, second: Recorded, reason: str) -> None:
    with pytest.raises(ConversionError, match=f"there is no input that both .*{reason}"):
        inputs(first, second)


@pytest.mark.parametrize(
    ("first", "second", "shapes"),
    [
        (
            taking(None, None, None, 3),
            taking(None, None, None, None, dtype="uint8"),
            dict.fromkeys(("photograph", "black", "odd"), (1, 96, 128, 3)),
        ),
        # a size that is given leaves no odd one
        (
            taking(None, 40, 60, 1),
            taking(2, None, None, None),
            dict.fromkeys(("photograph", "black", "noise"), (2, 40, 60, 1)),
        ),
        (
            taking(1, 8, 8, 3),
            taking(None, None, None, None),
            dict.fromkeys(("photograph", "black", "noise"), (1, 8, 8, 3)),
        ),
    ],
)
def test_inputs_that_both_take(
    first: Recorded, second: Recorded, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    for one, other in ((first, second), (second, first)):
        found = {n: x.shape for n, x in inputs(one, other).items()}
        assert found | {n: shapes[n] for n in found if n == "odd"} == shapes


def test_a_picture_of_ones_own_sets_the_size(tmp_path: Path) -> None:
    picture = tmp_path / "mine.npy"
    np.save(picture, np.arange(40 * 50 * 3, dtype=np.float32).reshape(40, 50, 3))
    found = inputs(taking(None, None, None, 3), taking(None, None, None, None), picture)
    assert {name: images.shape for name, images in found.items()} == dict.fromkeys(
        ("mine.npy", "photograph", "black"), (1, 40, 50, 3)
    )
    with pytest.raises(ConversionError, match="1×32×32×3"):
        inputs(taking(1, 32, 32, 3), taking(None, None, None, 3), picture)


def test_a_file_itself_goes_by_its_names(
    mini_mat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, second), named = opened(mini_mat, mini_mat)
    assert named
    assert first.layers == second.layers
    assert main(["diff", str(mini_mat), str(mini_mat)]) == 0
    assert "the same within 0.0001 in 36 layers" in capsys.readouterr().out


ALIGNMENT = Alignment(
    matching=Matching(
        fixed=(Pair("out", "n7", 2e-6, 0.5, "output"),),
        found=(Pair("a:0", "n1", 0.0), Pair("b[0]", "n2", 1e-6, 0.25)),
        ambiguous=(Ambiguity(("c", "d"), ("n3", "n4")),),
    ),
    shapes=(
        {"out": (1, 4), "a:0": (1, 6, 8, 3), "b[0]": (1, 6, 8, 4)},
        {"n7": (1, 4), "n1": (1, 3, 6, 8), "n2": (1, 4, 6, 8)},
    ),
    outputs=(Pair("out", "n7", 2e-6, 0.5, "output"),),
    alone=(tuple(f"x{n}" for n in range(10)), ()),
    at=("", ""),
    outcome=Outcome.SAME,
    sentence="the same within 0.0001: 1 output and 2 values before",
)


def test_an_alignment_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    listing.alignment(ALIGNMENT, ["photograph", "black"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:4] == [
        ["out", "1×4", "n7", "1×4", "2.0e-06", "5.0e-01", "2e+05", "output"],
        ["a:0", "1×6×8×3", "n1", "1×3×6×8", "0.0e+00", "none", "inf", "value"],
        ["b[0]", "1×6×8×4", "n2", "1×4×6×8", "1.0e-06", "2.5e-01", "2e+05", "value"],
    ]
    assert [" ".join(line) for line in lines[4:]] == [
        "not paired, more than one fits: c, d | n3, n4",
        "only the first has 10: x0, x1, x2, x3, x4, x5, x6, x7 and 2 more",
        "inputs: photograph, black",
        "the same within 0.0001: 1 output and 2 values before",
    ]
