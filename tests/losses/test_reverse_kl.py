import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.losses.reverse_kl import ReverseKl, reverse_kl
from tests.losses import laws
from tests.losses.naive import of_rows, relative_entropy


def reverse(p: list[float], q: list[float]) -> float:
    return relative_entropy(q, p)


@pytest.mark.parametrize("shape", laws.SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_to_a_naive_sum(shape: tuple[int, int], temperature: float) -> None:
    laws.equals_naive(
        lambda s, t: reverse_kl(s, t, temperature=temperature), of_rows(reverse, temperature), *laws.drawn(*shape)
    )


def test_top_k_knowledge_is_merged_into_a_bucket() -> None:
    laws.merges_all_but_the_top(ReverseKl(temperature=2.0), reverse)


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(ReverseKl())


@given(st.integers(0, 10**6), st.floats(0.3, 8.0))
def test_never_below_zero_and_zero_at_equality(seed: int, temperature: float) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    assert (reverse_kl(student, teacher, temperature=temperature) > -1e-5).all()
    assert reverse_kl(teacher + 1, teacher, temperature=temperature).abs().max() < 1e-4


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(reverse_kl, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(reverse_kl, *laws.drawn(3, 5))


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    laws.stays_finite(reverse_kl)


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    assert 0.2 < laws.change_of_gradient(lambda t: lambda x, y: reverse_kl(x, y, temperature=t)) < 5


def test_what_the_teacher_rules_out_is_avoided_but_at_a_finite_price() -> None:
    student, teacher = torch.zeros(1, 2), torch.tensor([[0.0, -math.inf]])
    assert 40 < reverse_kl(student, teacher).item() < 45
    assert laws.gradient(reverse_kl, student, teacher)[0, 1] > 0


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        ReverseKl(temperature=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_slope_is_that_of_the_value(temperature: float) -> None:
    laws.slope_is_that_of_the_value(lambda s, t: reverse_kl(s, t, temperature=temperature), *laws.drawn(3, 5))
