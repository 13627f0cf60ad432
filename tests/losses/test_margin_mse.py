import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck import testing
from limbeck.errors import UserError
from limbeck.losses.margin_mse import MarginMse, margin_mse
from tests.losses.laws import (
    SHAPES,
    drawn,
    equals_naive,
    ignores_the_order_of_rows,
    only_the_student_learns,
    slope_is_that_of_the_value,
    stays_finite,
)


def naive(student: Tensor, teacher: Tensor, positive: Tensor | None = None) -> list[float]:
    """Pair by pair."""
    rows = []
    for row in range(len(student)):
        left = [i for i in range(student.shape[1]) if teacher[row, i] > -math.inf]
        first = [i for i in left if positive is None or positive[row, i]]
        pairs = [(i, j) for i in first for j in left if (j > i if positive is None else not positive[row, j])]
        s, t = student[row].tolist(), teacher[row].tolist()
        errors = [((s[i] - s[j]) - (t[i] - t[j])) ** 2 for i, j in pairs]
        rows.append(sum(errors) / len(errors) if errors else 0.0)
    return rows


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_a_sum_over_pairs(shape: tuple[int, int]) -> None:
    student, teacher = drawn(*shape)
    positive = torch.zeros(shape, dtype=torch.bool)
    positive[:, :2] = True
    equals_naive(margin_mse, naive, student, teacher)
    equals_naive(margin_mse, naive, student, teacher, positive)
    teacher[0, 1:3] = -math.inf
    equals_naive(margin_mse, naive, student, teacher, positive)


@given(st.integers(0, 10**6), st.floats(-50, 50))
def test_zero_where_the_student_differs_by_a_shift_alone(seed: int, shift: float) -> None:
    teacher = drawn(4, 7, seed=seed)[0]
    assert margin_mse(teacher + shift, teacher).tolist() == pytest.approx([0.0] * 4, abs=1e-7)
    student = drawn(4, 7, seed=seed)[1]
    torch.testing.assert_close(margin_mse(student + shift, teacher), margin_mse(student, teacher), rtol=1e-3, atol=1e-3)


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(margin_mse, *drawn(3, 5))
    ignores_the_order_of_rows(margin_mse, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(margin_mse)


def test_pairs_are_of_targets_with_others_or_of_all_that_are_no_targets() -> None:
    student, teacher = drawn(3, 6)
    targets = torch.tensor([[1, 4], [0, -1], [-1, -1]])
    said: Any = {"scores": student}, {"scores": teacher}, {"targets": targets}
    hot = torch.zeros(3, 6, dtype=torch.bool)
    hot[[0, 0, 1], [1, 4, 0]] = True
    wanted = sum(naive(student, teacher, hot)[:2]) / 2  # the last row has no target, so no pair
    assert MarginMse()(*said).item() == pytest.approx(wanted, rel=1e-4)
    rest = naive(student, teacher.masked_fill(hot, -math.inf))
    assert MarginMse(pairs="all")(*said).item() == pytest.approx(sum(rest) / 3, rel=1e-4)


def test_it_keeps_the_contract_whatever_its_pairs() -> None:
    testing.check_loss(MarginMse(pairs="targets"))
    testing.check_loss(MarginMse(pairs="all"))


def test_other_pairs_are_refused() -> None:
    with pytest.raises(UserError, match="pairs is 'some'"):
        MarginMse(pairs="some")  # type: ignore[arg-type]


def test_the_slope_is_that_of_the_value() -> None:
    student, teacher = drawn(4, 5)
    teacher[0, 1:3] = -math.inf
    teacher[3, 1:] = -math.inf  # one is left: no pair
    positive = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    slope_is_that_of_the_value(margin_mse, student, teacher)
    slope_is_that_of_the_value(margin_mse, student, teacher, positive)
