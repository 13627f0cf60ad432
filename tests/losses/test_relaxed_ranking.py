import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.relaxed_ranking import RelaxedRanking, relaxed_ranking
from tests.losses.laws import (
    SHAPES,
    apart,
    drawn,
    equals_naive,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)

EVERY = 401
"""As many sampled items as there can be: nothing is left to chance."""


def naive(student: Tensor, teacher: Tensor, top: int = 40) -> list[float]:
    """Draw by draw."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = sorted((i for i in range(len(t)) if t[i] > -math.inf), key=lambda i: -t[i])
        pools = [order[k:] for k in range(len(order[:top]))]
        rows.append(sum(math.log(sum(math.exp(s[i]) for i in pool)) - s[pool[0]] for pool in pools))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("top", [1, 40])
def test_equal_to_a_sum_over_draws(shape: tuple[int, int], top: int) -> None:
    (student,), teacher = drawn(*shape, count=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    equals_naive(partial(relaxed_ranking, top=top, sampled=EVERY), partial(naive, top=top), student, teacher)


@given(st.integers(0, 10**6))
def test_positive_and_least_for_a_student_that_is_sure_of_the_teachers_order(seed: int) -> None:
    teacher = apart(4, 9, seed, step=1.0)
    assert (relaxed_ranking(drawn(4, 9, seed=seed)[0], teacher) > 0).all()
    assert relaxed_ranking(30 * teacher, teacher).tolist() == pytest.approx([0.0] * 4, abs=1e-6)


def test_the_order_of_the_others_does_not_matter() -> None:
    student, teacher = torch.tensor([[4.0, 1.0, 2.0, -3.0]]), torch.tensor([[9.0, 2.0, 1.0, 0.0]])
    turned = torch.tensor([[9.0, 0.0, 1.0, 2.0]])
    assert relaxed_ranking(student, teacher, top=1).item() == relaxed_ranking(student, turned, top=1).item()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(relaxed_ranking, *drawn(3, 5))
    ignores_the_order_of_rows(relaxed_ranking, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(relaxed_ranking)


def test_the_term_ranks_what_a_user_does_not_have() -> None:
    student, teacher = drawn(3, 6)[0], apart(3, 6)
    targets = torch.tensor([[1, 4], [0, -1], [-1, -1]])
    masked = teacher.clone()
    masked[[0, 0, 1], [1, 4, 0]] = -math.inf
    found = RelaxedRanking()({"scores": student}, {"scores": teacher}, {"targets": targets})
    assert found.item() == pytest.approx(sum(naive(student.double(), masked)) / 3, rel=1e-5)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"top": 0}, {"sampled": 0}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))}.* 0"):
            RelaxedRanking(**wrong)
