import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.squared_error import squared_error
from limbeck.losses.teacher_bounded import TeacherBounded, teacher_bounded
from tests.losses import laws


def bounded(student: Tensor, teacher: Tensor, truth: Tensor) -> Tensor:
    return teacher_bounded(student, teacher, truth, margin=0.5)


def naive(student: Tensor, teacher: Tensor, truth: Tensor) -> list[float]:
    def error(said: list[float], y: list[float]) -> float:
        return sum((a - b) ** 2 for a, b in zip(said, y, strict=True)) / len(y)

    losses = []
    for s, t, y in zip(*(x.reshape(len(x), -1).tolist() for x in (student, teacher, truth)), strict=True):
        losses.append(error(s, y) if error(s, y) + 0.5 > error(t, y) else 0.0)
    return losses


@pytest.mark.parametrize("shape", [*laws.SHAPES, (41,)])
def test_equal_to_a_naive_mean(shape: tuple[int, ...]) -> None:
    laws.equals_naive(bounded, naive, *laws.drawn(*shape, count=3))


@given(st.integers(0, 10**6))
def test_a_teacher_who_knows_the_truth_makes_it_the_squared_error_and_a_hopeless_one_nothing(seed: int) -> None:
    student, truth = laws.drawn(3, 5, seed=seed)
    torch.testing.assert_close(teacher_bounded(student, truth, truth), squared_error(student, truth))
    assert not teacher_bounded(student, truth + 1e4, truth).any()


def test_a_student_better_than_its_teacher_is_left_alone() -> None:
    student, teacher, truth = torch.tensor([2.0, 0.5]), torch.tensor([1.0, 1.0]), torch.zeros(2)
    for margin, wanted in ((0.0, [4.0, 0.0]), (1.0, [4.0, 1.0])):
        found = laws.gradient(lambda s, t, m=margin: teacher_bounded(s, t, truth, margin=m), student, teacher)
        assert found.tolist() == wanted


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    student, teacher, truth = laws.drawn(3, 5, count=3)
    laws.only_the_student_learns(lambda s, t: bounded(s, t, truth), student, teacher)
    laws.ignores_the_order_of_rows(bounded, student, teacher, truth)


def test_extreme_numbers_give_finite_values_and_gradients() -> None:
    laws.stays_finite(lambda s, t: teacher_bounded(s, t, torch.zeros_like(s)))


def test_an_impossible_margin_is_refused() -> None:
    with pytest.raises(UserError, match="margin is -1"):
        TeacherBounded(margin=-1)
