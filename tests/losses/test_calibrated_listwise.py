import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.losses.calibrated_listwise import CalibratedListwise, calibrated_listwise
from tests.losses.laws import (
    SHAPES,
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    slope_is_that_of_the_value,
    stays_finite,
)


def shares(scores: list[float]) -> list[float]:
    chances = [1 / (1 + math.exp(-x)) for x in scores]
    return [chance / sum(chances) for chance in chances]


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    """Share by share."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        left = [i for i in range(len(t)) if t[i] > -math.inf]
        p, q = shares([t[i] for i in left]), shares([s[i] for i in left])
        rows.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_a_sum_over_shares(shape: tuple[int, int]) -> None:
    student, teacher = drawn(*shape)
    teacher[0, 1:3] = -math.inf
    equals_naive(calibrated_listwise, naive, student, teacher)


@given(st.integers(0, 10**6))
def test_never_negative_and_zero_for_equals(seed: int) -> None:
    student, teacher = drawn(4, 9, seed=seed)
    assert (calibrated_listwise(student, teacher) >= -1e-6).all()
    assert calibrated_listwise(teacher, teacher).tolist() == pytest.approx([0.0] * 4, abs=1e-6)


def test_the_teachers_own_chances_leave_no_gradient_but_a_shift_of_them_does() -> None:
    (teacher,) = drawn(3, 5, count=1)
    assert gradient(calibrated_listwise, teacher, teacher).abs().max() < 1e-6
    assert gradient(calibrated_listwise, teacher + 2, teacher).abs().max() > 1e-2  # softmax would see no difference


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(calibrated_listwise, *drawn(3, 5))
    ignores_the_order_of_rows(calibrated_listwise, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(calibrated_listwise)


def test_the_term_keeps_the_clicks_of_a_page_in_its_list_unless_told_else() -> None:
    student, teacher = drawn(3, 6)
    targets = torch.tensor([[1, 4], [0, -1], [-1, -1]])
    found = CalibratedListwise()({"scores": student}, {"scores": teacher}, {})
    assert found.item() == pytest.approx(sum(naive(student.double(), teacher)) / 3, rel=1e-4)
    masked = teacher.clone()
    masked[[0, 0, 1], [1, 4, 0]] = -math.inf
    found = CalibratedListwise(mask_seen=True)({"scores": student}, {"scores": teacher}, {"targets": targets})
    assert found.item() == pytest.approx(sum(naive(student.double(), masked)) / 3, rel=1e-4)


def test_the_slope_is_that_of_the_value() -> None:
    student, teacher = drawn(3, 5)
    teacher[0, 1:3] = -math.inf
    slope_is_that_of_the_value(calibrated_listwise, student, teacher)
