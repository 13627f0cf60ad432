import math

import pytest
import torch
from torch import Tensor

from limbeck.losses.policy_kl import policy_kl
from limbeck.losses.teacher_action import TeacherAction, teacher_action
from tests.losses import laws
from tests.losses.naive import softmax


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    both = zip(student, teacher.tolist(), strict=True)
    return [-math.log(softmax(s)[t.index(max(t))]) for s, t in both]


@pytest.mark.parametrize("shape", laws.SHAPES)
def test_equal_to_a_naive_sum(shape: tuple[int, int]) -> None:
    laws.equals_naive(teacher_action, naive, *laws.drawn(*shape))


def test_it_is_policy_distillation_at_no_temperature() -> None:
    student, teacher = laws.drawn(3, 5)
    torch.testing.assert_close(teacher_action(student, teacher), policy_kl(student, teacher, temperature=1e-4))


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(teacher_action, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(teacher_action, *laws.drawn(3, 5))


def test_extreme_values_and_forbidden_actions_give_finite_values_and_gradients() -> None:
    laws.stays_finite(teacher_action)


def test_the_soft_target_is_the_action() -> None:
    found = TeacherAction().target({"values": torch.tensor([[1.0, 3.0, 2.0]])}, {})
    assert found is not None
    assert found.tolist() == [[0.0, 1.0, 0.0]]
