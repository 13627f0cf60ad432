import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.attention_transfer import AttentionTransfer, attention_transfer
from tests.losses import hidden, laws


def naive(student: Tensor, teacher: Tensor, power: float = 2.0) -> list[float]:
    """Row by row, place by place."""

    def attention(states: list[list[float]]) -> list[float]:
        active = [sum(abs(x) ** power for x in place) / len(place) for place in states]
        return [a / math.sqrt(sum(b * b for b in active)) for a in active]

    both = [(attention(s), attention(t)) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    return [sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s) for s, t in both]


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("places", [1, 5, 41])
def test_equal_to_a_naive_sum(power: float, places: int) -> None:
    student, teacher = laws.drawn(3, places, 7)[0], laws.drawn(3, places, 4, seed=1)[0]
    laws.equals_naive(
        lambda s, t: attention_transfer(s, t, power=power), lambda s, t: naive(s, t, power), student, teacher
    )


def test_the_larger_picture_is_averaged_down() -> None:
    small, large = laws.drawn(2, 3, 2, 2)[0], laws.drawn(2, 5, 4, 4, seed=1)[0]
    mean = large.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
    torch.testing.assert_close(attention_transfer(small, large), attention_transfer(small, mean))
    torch.testing.assert_close(attention_transfer(large, small), attention_transfer(mean, small))


@given(st.integers(0, 10**6), st.floats(0.01, 100.0))
def test_never_below_zero_and_blind_to_scale_and_to_the_order_of_widths(seed: int, factor: float) -> None:
    student, teacher = laws.drawn(3, 4, 7, seed=seed)
    found = attention_transfer(student, teacher)
    assert (found >= 0).all()
    assert (found <= 2 / 4 + 1e-6).all()
    torch.testing.assert_close(attention_transfer(factor * student.flip(2), teacher), found, rtol=1e-3, atol=1e-6)
    assert attention_transfer(-factor * teacher, teacher).max() < 1e-9


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    for shape in ((3, 4, 7), (2, 3, 4, 4)):
        laws.only_the_student_learns(attention_transfer, *laws.drawn(*shape))
        laws.ignores_the_order_of_rows(attention_transfer, *laws.drawn(*shape))


@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 3, 4, 4)])
def test_extreme_states_give_finite_values_and_gradients(shape: tuple[int, ...]) -> None:
    hidden.stays_finite(AttentionTransfer(student="a", teacher="b"), shape)
    hidden.stays_finite(AttentionTransfer(student="a", teacher="b", power=1.0), shape)


def test_it_brings_the_maps_together() -> None:
    hidden.learns(AttentionTransfer(student="a", teacher="b"), *laws.drawn(3, 4, 7))


def test_states_without_places_and_an_impossible_power_are_refused() -> None:
    with pytest.raises(UserError, match="no places to compare"):
        hidden.sized(AttentionTransfer(student="a", teacher="b"), *laws.drawn(3, 5))
    with pytest.raises(UserError, match=r"power is 0\.5"):
        AttentionTransfer(student="a", teacher="b", power=0.5)
