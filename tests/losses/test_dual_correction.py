import math
from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.dual_correction import DualCorrection, dual_correction
from tests.losses.laws import (
    SHAPES,
    apart,
    drawn,
    equals_naive,
    gradient,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)

EVERY = 401
"""As many items as there can be: nothing is left to chance."""


def naive(student: Tensor, teacher: Tensor) -> list[float]:
    """All items ranked too low, in the teacher's order, each above those after it and all ranked too high."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        there = [i for i in range(len(t)) if t[i] > -math.inf]
        by_teacher, by_student = (sorted(there, key=lambda i: -x[i]) for x in (t, s))
        low = [i for i in by_teacher if by_student.index(i) > by_teacher.index(i)]
        high = [i for i in by_teacher if by_student.index(i) < by_teacher.index(i)]
        mass = [math.log(sum(math.exp(s[i]) for i in low[k:] + high)) for k in range(len(low))]
        rows.append(sum(m - s[i] for m, i in zip(mass, low, strict=True)))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_a_sum_over_items_out_of_place(shape: tuple[int, int]) -> None:
    student, teacher = apart(*shape, seed=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    equals_naive(partial(dual_correction, top=EVERY, sampled=EVERY), naive, student, teacher)


def test_a_student_that_ranks_as_the_teacher_does_has_nothing_to_learn() -> None:
    teacher = apart(4, 41)
    assert dual_correction(2 * teacher - 7, teacher).tolist() == [0.0] * 4


def test_items_ranked_too_low_are_lifted_and_those_ranked_too_high_pressed_down() -> None:
    student, teacher = torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    found = gradient(dual_correction, student, teacher)[0]
    assert found[2] < 0 < found[0]
    assert found[[1, 3]].tolist() == [0.0, 0.0]


def test_an_item_further_out_of_place_is_drawn_more_often() -> None:
    torch.manual_seed(0)
    teacher = torch.arange(6.0).flip(0).repeat(4000, 1)
    student = torch.tensor([[0.0, 4.5, 4.0, 3.0, 5.0, 1.0]]).repeat(4000, 1)  # item 0 is five too low, item 2 one ...
    found = gradient(partial(dual_correction, top=1, sampled=6, sharpness=1e-3), student, teacher)
    lifted = (found < 0).float().mean(0)
    ranks = [5, 1, 2, 3, 0, 4]
    low = [max(r - k, 0) for k, r in enumerate(ranks)]
    assert lifted.tolist() == pytest.approx([x / sum(low) for x in low], abs=0.03)


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(dual_correction, *drawn(3, 5))
    ignores_the_order_of_rows(dual_correction, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(dual_correction)


@pytest.mark.parametrize("setting", [{"top": 0}, {"sampled": 0}, {"sharpness": 0.0}])
def test_impossible_settings_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))}.*{next(iter(setting.values()))}"):
        DualCorrection(**setting)  # type: ignore[arg-type]
