import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.soft_binary import SoftBinary, soft_binary
from tests.losses import laws


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z / 2))

    def loss(z: float, t: float) -> float:
        q, p = sigmoid(z), sigmoid(t)
        return -4 * (p * math.log(q) + (1 - p) * math.log(1 - q))

    both = zip(student.reshape(len(student), -1).tolist(), teacher.reshape(len(student), -1).tolist(), strict=True)
    return [sum(loss(z, t) for z, t in zip(s, ts, strict=True)) / len(s) for s, ts in both]


@pytest.mark.parametrize("shape", [*laws.SHAPES, (41,)])
def test_equal_to_a_naive_sum(shape: tuple[int, ...]) -> None:
    laws.equals_naive(lambda s, t: soft_binary(s, t, temperature=2.0), naive, *laws.drawn(*shape))


@given(st.integers(0, 10**6))
def test_least_where_the_student_says_what_the_teacher_says(seed: int) -> None:
    student, teacher = laws.drawn(3, 5, seed=seed)
    assert (soft_binary(student, teacher) >= soft_binary(teacher, teacher) - 1e-6).all()
    assert laws.gradient(soft_binary, teacher, teacher).abs().max() < 1e-6


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(soft_binary, *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(soft_binary, *laws.drawn(3, 5))


def test_extreme_logits_give_finite_values_and_gradients() -> None:
    laws.stays_finite(soft_binary)


def test_the_gradient_keeps_its_size_over_temperatures() -> None:
    assert 0.2 < laws.change_of_gradient(lambda t: lambda x, y: soft_binary(x, y, temperature=t)) < 5


def test_steps_that_do_not_count_are_left_out() -> None:
    laws.leaves_out_masked_steps(SoftBinary())


def test_the_soft_target_is_the_teachers_probability_of_yes() -> None:
    found = SoftBinary(temperature=4.0).target({"logits": torch.zeros(2, 3)}, {})
    assert found is not None
    assert found.tolist() == [[0.5] * 3] * 2


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        SoftBinary(temperature=0)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 2)])
def test_the_slope_is_that_of_the_value(shape: tuple[int, ...]) -> None:
    laws.slope_is_that_of_the_value(lambda s, t: soft_binary(s, t, temperature=2.0), *laws.drawn(*shape))
