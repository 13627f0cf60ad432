import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.losses.squared_error import SquaredError, squared_error
from tests.losses import laws


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    both = zip(student.reshape(len(student), -1).tolist(), teacher.reshape(len(student), -1).tolist(), strict=True)
    return [sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s) for s, t in both]


@pytest.mark.parametrize("shape", [*laws.SHAPES, (41,), (3, 5, 2)])
def test_equal_to_a_naive_mean(shape: tuple[int, ...]) -> None:
    laws.equals_naive(squared_error, naive, *laws.drawn(*shape))


@given(st.integers(0, 10**6))
def test_zero_only_at_equality(seed: int) -> None:
    student, teacher = laws.drawn(3, 5, seed=seed)
    assert (squared_error(student, teacher) > 0).all()
    assert not squared_error(teacher, teacher).any()


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(squared_error, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(squared_error, *laws.drawn(3, 5))


def test_extreme_numbers_give_finite_values_and_gradients() -> None:
    laws.stays_finite(squared_error)


def test_outputs_that_the_teacher_rules_out_cost_nothing() -> None:
    student, teacher = torch.tensor([[1.0, 7.0], [1.0, 2.0]]), torch.tensor([[3.0, -math.inf], [-math.inf, -math.inf]])
    assert squared_error(student, teacher).tolist() == [2.0, 0.0]
    assert SquaredError().target({"values": teacher}, {}) is None


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(SquaredError(signal="logits"))


def test_the_target_is_the_teachers_numbers() -> None:
    found = SquaredError().target({"values": torch.tensor([1.0, 2.0])}, {})
    assert found is not None
    assert found.tolist() == [1.0, 2.0]
