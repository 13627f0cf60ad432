import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.quantile import Quantile, quantile
from tests.losses import laws

LEVELS = (0.05, 0.3, 0.5, 0.6, 0.9)
MASSES = (0.175, 0.225, 0.15, 0.2, 0.25)


def loss(student: Tensor, teacher: Tensor) -> Tensor:
    return quantile(student, teacher, levels=LEVELS)


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    def pinball(level: float, s: float, y: float) -> float:
        return level * (y - s) if y >= s else (1 - level) * (s - y)

    losses = []
    for mine, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        pairs = [
            mass * pinball(level, s, y)
            for level, s in zip(LEVELS, mine, strict=True)
            for mass, y in zip(MASSES, theirs, strict=True)
        ]
        losses.append(sum(pairs) / len(LEVELS))
    return losses


@pytest.mark.parametrize("rows", [1, 3, 41])
def test_equal_to_a_naive_sum(rows: int) -> None:
    laws.equals_naive(loss, naive, *laws.drawn(rows, 5))


@given(st.integers(0, 10**6))
def test_least_where_the_student_says_what_the_teacher_says(seed: int) -> None:
    student, teacher = (x.sort(1).values for x in laws.drawn(3, 5, seed=seed))
    assert (loss(student, teacher) >= loss(teacher, teacher) - 1e-6).all()


def test_rows_that_the_student_cannot_tell_apart_get_the_quantiles_of_both_together() -> None:
    """Of two uniform distributions side by side, not the mean of their quantiles."""
    levels = tuple((i + 0.5) / 40 for i in range(40))
    first = torch.tensor(levels)
    teacher = torch.stack([first, first + 1])
    student = torch.zeros(40, requires_grad=True)
    for step in range(2000):
        (gradient,) = torch.autograd.grad(quantile(student.expand(2, 40), teacher, levels=levels).mean() * 40, student)
        with torch.no_grad():
            student -= gradient * 0.2 / (1 + step / 50)
    torch.testing.assert_close(student.detach(), 2 * first, rtol=0, atol=0.08)


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(loss, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(loss, *laws.drawn(3, 5))


def test_extreme_numbers_give_finite_values_and_gradients() -> None:
    big = torch.tensor([[1e4, -1e4, 0.0, 1.0, 2.0]])
    for student, teacher in ((big, -big), (big, big), (torch.zeros(1, 5), big)):
        assert torch.isfinite(loss(student, teacher)).all()
        assert torch.isfinite(laws.gradient(loss, student, teacher)).all()


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(Quantile(levels=LEVELS, signal="logits"))


@pytest.mark.parametrize("levels", [(), (0.5, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (math.nan,)])
def test_impossible_levels_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="they must rise, between 0 and 1"):
        Quantile(levels=levels)
