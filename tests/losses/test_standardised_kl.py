import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.standardised_kl import StandardisedKl, standardised_kl
from tests.losses import laws
from tests.losses.naive import relative_entropy, softmax


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    def standard(logits: Tensor) -> Tensor:
        mean = sum(logits.tolist()) / len(logits)
        deviation = math.sqrt(sum((z - mean) ** 2 for z in logits.tolist()) / len(logits))
        return (logits - mean) / deviation

    both = zip(student, teacher, strict=True)
    return [9 * relative_entropy(softmax(standard(t), 3.0), softmax(standard(s), 3.0)) for s, t in both]


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(lambda s, t: standardised_kl(s, t, temperature=3.0), naive, *laws.drawn(*shape), rounding=0.1)


@given(st.integers(0, 10**6), st.floats(0.1, 10.0), st.floats(-20.0, 20.0))
def test_scale_and_place_of_the_students_logits_are_its_own(seed: int, scale: float, shift: float) -> None:
    student, teacher = laws.drawn(3, 7, seed=seed)
    found, wanted = standardised_kl(scale * student + shift, teacher), standardised_kl(student, teacher)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert (found > -1e-5).all()
    assert standardised_kl(scale * teacher + shift, teacher).abs().max() < 1e-3


def test_what_the_teacher_rules_out_counts_in_neither_mean() -> None:
    student, teacher = laws.drawn(3, 5)
    wider = torch.cat([student, torch.full((3, 1), -1e3)], 1), torch.cat([teacher, torch.full((3, 1), -math.inf)], 1)
    torch.testing.assert_close(standardised_kl(*wider), standardised_kl(student, teacher), rtol=1e-5, atol=1e-6)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(standardised_kl, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(standardised_kl, *laws.drawn(3, 5))


def test_extreme_and_all_equal_logits_give_finite_values_and_gradients() -> None:
    laws.stays_finite(standardised_kl)


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    assert 0.2 < laws.change_of_gradient(lambda t: lambda x, y: standardised_kl(x, y, temperature=t)) < 5


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(StandardisedKl())


def test_top_k_knowledge_is_refused_for_its_mean_is_another() -> None:
    student, teacher = laws.drawn(3, 5)
    with pytest.raises(UserError, match="needs all of 'logits'"):
        StandardisedKl()({"logits": student}, laws.stored(teacher, 2, 2.0), {})


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        StandardisedKl(temperature=0)
