"""Pairing by value, on nets of a few operations in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from verify.align import candidates, matched
from verify.runners.layered import Images
from verify.side import Side
from verify.signature import distance, estimate, signature
from verify.unnamed import Alignment, Outcome, aligned

Array = NDArray[Any]
Operation = Callable[..., Array]

RNG = np.random.default_rng(5)
INPUTS = {
    "one": RNG.standard_normal((1, 6, 8, 3)).astype(np.float32),
    "dark": np.zeros((1, 6, 8, 3), np.float32),
    "odd": RNG.standard_normal((1, 7, 9, 3)).astype(np.float32),
}
KERNEL, BIAS = RNG.standard_normal((3, 4)).astype(np.float32), RNG.standard_normal(4)
HEAD = RNG.standard_normal((4, 2)).astype(np.float32)


@dataclass(frozen=True)
class Net:
    """Value -> operation, what it reads; in the order of execution."""

    steps: Mapping[str, tuple[Operation, tuple[str, ...]]]
    takes: Images = field(default_factory=Images)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.steps)

    @property
    def reads(self) -> Mapping[str, tuple[str, ...]]:
        return {name: read for name, (_, read) in self.steps.items()}

    def run(self, images: Array) -> Iterator[tuple[str, Array]]:
        values = {"image": images}
        for name, (operation, read) in self.steps.items():
            values[name] = operation(*(values[each] for each in read))
            yield name, values[name]

    def with_step(self, name: str, operation: Operation, *read: str) -> Net:
        return replace(self, steps={**self.steps, name: (operation, read)})


def channels_last(kernel: Array = KERNEL, bias: Array = BIAS) -> Net:
    """A convolution with its bias, a relu, the mean over the image, a matrix."""
    return Net(
        {
            "conv": (lambda x: (x @ kernel + bias).astype(np.float32), ("image",)),
            "relu": (lambda x: np.maximum(x, 0), ("conv",)),
            "mean": (lambda x: x.mean((1, 2)), ("relu",)),
            "out": (lambda x: x @ HEAD, ("mean",)),
        }
    )


def channels_first(kernel: Array = KERNEL, bias: Array = BIAS, head: Array = HEAD) -> Net:
    """The same by other steps, axes and names, the rounding included."""
    return Net(
        {
            "t0": (lambda x: x.transpose(0, 3, 1, 2), ("image",)),
            "t1": (lambda x: np.einsum("nchw,cd->ndhw", x, kernel), ("t0",)),
            "t2": (lambda x: (x + bias[:, None, None]).astype(np.float32), ("t1",)),
            "t3": (lambda x: np.maximum(x, 0), ("t2",)),
            "t4": (lambda x: x.sum((2, 3), keepdims=True), ("t3",)),
            "t5": (lambda x, y: x / np.float32(y.shape[2] * y.shape[3]), ("t4", "t3")),
            "t6": (lambda x: np.einsum("nchw,cd->nd", x, head), ("t5",)),
        }
    )


def pairs(found: Alignment) -> dict[str, str]:
    return {p.first: p.second for p in (*found.matching.found, *found.matching.fixed)}


# --- what differs


@pytest.mark.parametrize(
    ("second", "at"),
    [
        (channels_first(kernel=KERNEL * np.float32(1.01)), ("conv", "t1")),
        # what only one of them has, the product without its bias, is where that one parts
        (channels_first(bias=BIAS + 0.01), ("conv", "t1")),
        (channels_first(head=HEAD[::-1]), ("out", "t6")),
        (channels_first().with_step("t3", lambda x: np.maximum(x, 0.01 * x), "t2"), ("relu", "t3")),
    ],
)
def test_a_difference_is_found_where_it_is_made(second: Net, at: tuple[str, str]) -> None:
    found = aligned(channels_last(), second, INPUTS)
    assert found.outcome is Outcome.DIFFERENT
    assert found.at == at
    assert found.sentence == f"different: first at {at[0]}, where the second artifact has {at[1]}"


def test_a_difference_on_one_input_alone_counts() -> None:
    def broken_at_night(x: Array) -> Array:
        return np.maximum(x, 0) if x[0, 0].std() > 1e-3 else np.maximum(x, 0) + 1

    found = aligned(
        channels_last(), channels_first().with_step("t3", broken_at_night, "t2"), INPUTS
    )
    assert (found.outcome, found.at) == (Outcome.DIFFERENT, ("relu", "t3"))
    without = {name: INPUTS[name] for name in ("one", "odd")}
    found = aligned(
        channels_last(), channels_first().with_step("t3", broken_at_night, "t2"), without
    )
    assert found.outcome is Outcome.SAME


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_the_same(value: float) -> None:
    def spoilt(x: Array) -> Array:
        return np.full_like(x, value)

    first = channels_last().with_step("end", spoilt, "out")
    second = channels_first().with_step("end", spoilt, "t6")
    found = aligned(first, second, INPUTS)
    assert found.outcome is Outcome.DIFFERENT
    assert not pairs(found).keys() - {"end", *channels_last().layers}
    assert found.outputs[0].agreement == math.inf


def test_an_output_of_another_size_is_a_difference() -> None:
    longer = channels_first().with_step("t6", lambda x: x[:, :, 0, 0], "t5")
    found = aligned(channels_last(), longer, INPUTS)
    assert (found.outcome, found.at[0]) == (Outcome.DIFFERENT, "out")


def test_a_step_more_at_the_end_is_a_difference() -> None:
    longer = channels_first().with_step("t7", lambda x: x / (np.linalg.norm(x) + 1), "t6")
    found = aligned(channels_last(), longer, INPUTS)
    assert (found.outcome, found.at) == (Outcome.DIFFERENT, ("", "t7"))
    assert found.sentence == "different: the second artifact goes on, with t7"
    found = aligned(longer, channels_last(), INPUTS)
    assert found.sentence == "different: the first artifact goes on, with t7"


def test_nets_that_have_nothing_in_common_are_not_compared() -> None:
    other = Net({"far": (lambda x: x[:, ::2, :, :2] ** 2, ("image",))})
    found = aligned(channels_last(), other, INPUTS)
    assert found.outcome is Outcome.UNKNOWN
    assert found.sentence == "no value of the first is found in the second"


# --- what is the same


def test_the_same_by_other_steps_axes_and_names() -> None:
    found = aligned(channels_last(), channels_first(), INPUTS)
    assert found.outcome is Outcome.SAME
    assert pairs(found) == {"conv": "t2", "relu": "t3", "mean": "t5", "out": "t6"}
    assert found.sentence == "the same within 0.0001: 1 output and 3 values before"
    assert found.alone == ((), ("t1", "t4"))
    assert found.shapes[0]["relu"] == (1, 6, 8, 4)
    assert found.shapes[1]["t3"] == (1, 4, 6, 8)


def test_how_sure_a_pair_is() -> None:
    found = aligned(channels_last(), channels_first(), INPUTS)
    pair = next(pair for pair in found.matching.found if pair.first == "relu")
    assert pair.agreement < 1e-6
    assert 0.01 < pair.runner_up < 10
    assert pair.ratio == pair.runner_up / pair.agreement > 1e4


def test_copies_are_one_value() -> None:
    second = (
        channels_first()
        .with_step("again", lambda x: x.copy(), "t3")
        .with_step("turned", lambda x: x.transpose(0, 2, 3, 1), "t3")
        .with_step("flat", lambda x: x.reshape(1, -1), "turned")
        .with_step("t4", lambda x: x.sum((1, 2), keepdims=True).transpose(0, 3, 1, 2), "turned")
    )
    order = ("t0", "t1", "t2", "t3", "again", "turned", "flat", "t4", "t5", "t6")
    second = Net({name: second.steps[name] for name in order})
    # what nothing reads would be an output
    steps = {**second.steps, "t5": (lambda x, y, *_: x / np.float32(y.shape[2] * y.shape[3]),
                                    ("t4", "t3", "again", "flat"))}  # fmt: skip
    found = aligned(channels_last(), replace(second, steps=steps), INPUTS)
    assert found.outcome is Outcome.SAME
    assert found.matching.ambiguous == ()
    assert pairs(found)["relu"] == "t3"


def two_branches(scale: float = 1.0) -> Net:
    """Two convolutions on the same values, whose weights are the same for a `scale` of 1."""
    return Net(
        {
            "a": (lambda x: x @ KERNEL, ("image",)),
            "b": (lambda x: x @ (KERNEL * np.float32(scale)), ("image",)),
            "sum": (lambda x, y: (x + 2 * y).mean((1, 2)), ("a", "b")),
        }
    )


def test_between_equal_branches_nothing_is_guessed() -> None:
    found = aligned(two_branches(), two_branches(), INPUTS)
    (doubt,) = found.matching.ambiguous
    assert (set(doubt.first), set(doubt.second)) == ({"a", "b"}, {"a", "b"})
    assert pairs(found) == {"sum": "sum"}
    assert found.outcome is Outcome.SAME
    assert found.sentence.endswith("; 2 that fit in more than one way are not paired")


def test_branches_that_differ_are_paired() -> None:
    found = aligned(two_branches(1.01), two_branches(1.01), INPUTS)
    assert found.matching.ambiguous == ()
    assert pairs(found) == {"a": "a", "b": "b", "sum": "sum"}


def test_one_value_for_two_equal_ones_is_not_guessed_either() -> None:
    one = Net(
        {
            "only": (lambda x: x @ KERNEL, ("image",)),
            "end": (lambda x: (3 * x).mean((1, 2)), ("only",)),
        }
    )
    found = aligned(two_branches(), one, INPUTS)
    (doubt,) = found.matching.ambiguous
    assert (set(doubt.first), doubt.second) == ({"a", "b"}, ("only",))
    assert found.outcome is Outcome.SAME


def two_outputs(same: bool) -> Net:
    net = two_branches(1.0 if same else 1.01)
    return Net({name: net.steps[name] for name in ("a", "b")})


def test_outputs_are_told_apart_or_the_answer_is_refused() -> None:
    turned = Net(dict(reversed(list(two_outputs(same=False).steps.items()))))
    found = aligned(two_outputs(same=False), turned, INPUTS)
    assert (found.outcome, len(found.outputs)) == (Outcome.SAME, 2)
    found = aligned(two_outputs(same=True), two_outputs(same=True), INPUTS)
    assert found.outcome is Outcome.UNKNOWN
    assert found.sentence.startswith("the outputs cannot be told apart: a, b")


def test_one_of_two_outputs_wrong() -> None:
    second = two_outputs(same=False).with_step("b", lambda x: x @ KERNEL[::-1], "image")
    found = aligned(two_outputs(same=False), second, INPUTS)
    assert (found.outcome, found.at) == (Outcome.DIFFERENT, ("b", "b"))


# --- names


def named(net: Net, names: Mapping[str, str]) -> Net:
    return Net(
        {
            names.get(name, name): (operation, tuple(names.get(each, each) for each in read))
            for name, (operation, read) in net.steps.items()
        }
    )


def test_names_win_over_values() -> None:
    first = named(two_branches(), {"a": "conv1_1", "b": "conv1_2"})
    second = named(two_branches(), {"b": "conv1_1", "a": "conv1_2"})
    found = aligned(first, second, INPUTS)
    assert found.matching.ambiguous == ()
    assert pairs(found) == {"conv1_1": "conv1_1", "conv1_2": "conv1_2", "sum": "sum"}
    assert {p.by for p in found.matching.fixed} == {"name", "output"}

    first = named(two_branches(1.01), {"a": "conv1_1", "b": "conv1_2"})
    second = named(two_branches(1.01), {"b": "conv1_1", "a": "conv1_2"})
    found = aligned(first, second, INPUTS)
    assert (found.outcome, found.at[0]) == (Outcome.DIFFERENT, "conv1_1")


# --- signatures


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 4, 6, 1, 8), (7,), (1, 1), (70000,), (3, 70000)])
def test_a_signature_does_not_depend_on_the_axes(shape: Sequence[int]) -> None:
    values = RNG.standard_normal(shape)
    turned = values.transpose()
    assert signature(values).digest == signature(turned.copy()).digest
    assert signature(values).sizes == signature(turned).sizes
    assert estimate(signature(values), signature(turned)) < 1e-12
    assert distance(values, turned) == 0
    assert signature(values).digest == signature(values.reshape(-1)).digest


def test_a_signature_changes_with_any_value() -> None:
    values = RNG.standard_normal((5, 6))
    other = values.copy()
    other[3, 2] = np.nextafter(other[3, 2], 9)
    assert signature(values).digest != signature(other).digest


@pytest.mark.parametrize("error", [1e-5, 1e-3, 0.1])
def test_an_estimate_is_near_the_truth(error: float) -> None:
    values = RNG.standard_normal((12, 20, 30))
    other = values + error * RNG.standard_normal(values.shape)
    guess = estimate(signature(values), signature(other))
    assert guess == pytest.approx(error / np.abs(values).max(), rel=0.8)
    # an offset of every value, too
    guess = estimate(signature(values), signature(values + error))
    assert 0.02 < guess / (error / np.abs(values).max()) < 8


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), math.inf),
        (np.zeros(3), np.zeros((3, 1)), 0.0),
        (np.zeros(3), np.ones(3), math.inf),
        (np.array([1.0, math.nan]), np.array([1.0, math.nan]), math.inf),
        (np.array([1.0, math.inf]), np.array([1.0, math.inf]), math.inf),
        (np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 3], [2, 4]]), 0.0),
        (np.array([1.0, -4]), np.array([1.0, -3]), 0.25),
    ],
)
def test_distance(first: Array, second: Array, expected: float) -> None:
    assert distance(first, second) == expected


def test_an_estimate_alone_pairs_nothing() -> None:
    first, second = channels_last(), channels_first()
    sides = [
        Side(
            net.layers,
            net.reads,
            [{"image": signature(x), **{n: signature(v) for n, v in net.run(x)}}
             for x in INPUTS.values()],
        )
        for net in (first, second)
    ]  # fmt: skip
    chosen = candidates(sides[0], sides[1], [], 1e-4)
    assert chosen[("relu", "t3")] == ("relu", "t3")
    assert matched(sides[0], sides[1], [], dict.fromkeys(chosen, 0.5), 1e-4).found == ()
