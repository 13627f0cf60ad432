import math
from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.collaborative_distillation import CollaborativeDistillation, collaborative_distillation
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


def naive(student: Tensor, teacher: Tensor, top: int, offset: float, temperature: float) -> list[float]:
    """Item by item, all of the best."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = sorted((i for i in range(len(t)) if t[i] > -math.inf), key=lambda i: -t[i])
        total = 0.0
        for i in order[:top]:
            p, q = (1 / (1 + math.exp(-x)) for x in ((t[i] + offset) / temperature, s[i]))
            total -= p * math.log(q) + (1 - p) * math.log(1 - q)
        rows.append(total)
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_to_a_sum_over_items_where_all_of_the_best_are_drawn(shape: tuple[int, int], temperature: float) -> None:
    (student,), teacher = drawn(*shape, count=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    settings = {"top": 7, "offset": 0.5, "temperature": temperature}
    equals_naive(
        partial(collaborative_distillation, sampled=7, **settings), partial(naive, **settings), student, teacher
    )


def test_least_where_the_students_log_odds_are_the_teachers_softened() -> None:
    (teacher,) = drawn(3, 5, count=1)
    loss = partial(collaborative_distillation, temperature=2.0)
    assert not (gradient(loss, teacher / 2, teacher).abs() > 1e-6).any()


def test_better_items_are_drawn_more_often() -> None:
    torch.manual_seed(0)
    teacher = torch.arange(10.0).flip(0).repeat(6000, 1)
    student = torch.zeros(6000, 10)
    touched = gradient(partial(collaborative_distillation, top=8, sampled=1, offset=1.0), student, teacher) != 0
    assert touched.sum(1).tolist() == [1] * 6000
    shares = touched.float().mean(0)
    wanted = torch.softmax(-torch.arange(8) / 8, 0)
    assert shares[:8].tolist() == pytest.approx(wanted.tolist(), abs=0.02)
    assert not shares[8:].any()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(collaborative_distillation, *drawn(3, 5))
    ignores_the_order_of_rows(collaborative_distillation, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(collaborative_distillation)


@pytest.mark.parametrize("setting", [{"top": 0}, {"sampled": 0}, {"temperature": 0.0}])
def test_impossible_settings_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))}.*{next(iter(setting.values()))}"):
        CollaborativeDistillation(**setting)  # type: ignore[arg-type]  # whole numbers and one that is not
