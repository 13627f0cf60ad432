import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.inter_channel import InterChannel, inter_channel
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    """Channel by channel."""

    def together(states: list[list[float]]) -> list[list[float]]:
        channels = list(zip(*states, strict=True))
        products = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in channels] for x in channels]
        return [[g / math.hypot(*row) for g in row] for row in products]

    both = [(together(s), together(t)) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    apart = [[(a - b) ** 2 for x, y in zip(s, t, strict=True) for a, b in zip(x, y, strict=True)] for s, t in both]
    return [sum(row) / student.shape[2] for row in apart]


@pytest.mark.parametrize(("places", "width"), [(1, 5), (5, 7), (41, 5), (4, 41)])
def test_equal_to_a_naive_sum(places: int, width: int) -> None:
    laws.equals_naive(inter_channel, naive, *laws.drawn(3, places, width), rounding=0.1)


def test_pictures_may_be_of_any_size() -> None:
    student, teacher = laws.drawn(2, 3, 4, 4)[0], laws.drawn(2, 3, 6, 5, seed=1)[0]
    flat = [x.flatten(2).transpose(1, 2) for x in (student, teacher)]
    torch.testing.assert_close(inter_channel(student, teacher), inter_channel(*flat))


@given(st.integers(0, 10**6), st.floats(0.1, 10.0))
def test_never_below_zero_and_blind_to_the_order_of_places_and_to_scale(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(3, 6, 4, seed=seed)
    found = inter_channel(student, teacher)
    assert (found >= 0).all()
    assert (found <= 4 + 1e-5).all()
    torch.testing.assert_close(inter_channel(factor * student.flip(1), teacher), found, rtol=1e-3, atol=1e-5)
    assert inter_channel(factor * teacher.roll(2, 1), teacher).max() < 1e-6


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    for shape in ((3, 4, 7), (2, 3, 4, 4)):
        laws.only_the_student_learns(inter_channel, *laws.drawn(*shape))
        laws.ignores_the_order_of_rows(inter_channel, *laws.drawn(*shape))


@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 3, 4, 4)])
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(InterChannel(student="a", teacher="b"), shape)


def test_it_learns_through_its_projection() -> None:
    hidden.learns(InterChannel(student="a", teacher="b"), *laws.drawn(3, 6, 4))


def test_states_without_places_are_refused() -> None:
    with pytest.raises(UserError, match="no places to compare"):
        hidden.sized(InterChannel(student="a", teacher="b"), *laws.drawn(3, 5))
