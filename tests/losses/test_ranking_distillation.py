import math
from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.ranking_distillation import RankingDistillation, ranking_distillation
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
"""As many sampled items as there can be: ranks are exact."""


def naive(student: Tensor, teacher: Tensor, top: int = 10, decay: float = 1.0, sharpness: float = 0.1) -> list[float]:
    """Item by item."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = sorted((i for i in range(len(t)) if t[i] > -math.inf), key=lambda i: -t[i])
        position = [math.exp(-(k + 1) / decay) for k in range(len(order[:top]))]
        total = 0.0
        for k, item in enumerate(order[:top]):
            rank = sum(s[other] > s[item] for other in order)
            weight = position[k] / sum(position) * math.tanh(sharpness * max(rank - k, 0))
            total += weight * math.log(1 + math.exp(-s[item]))
        rows.append(total)
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [1.0, 5.0])
def test_equal_to_a_sum_over_items(shape: tuple[int, int], decay: float) -> None:
    (student,), teacher = drawn(*shape, count=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    found = partial(ranking_distillation, sampled=EVERY, decay=decay)
    # Ranks jump where rounding to bfloat16 swaps two items.
    equals_naive(found, partial(naive, decay=decay), student, teacher, rounding=0.2)


def test_a_student_that_ranks_as_the_teacher_does_has_nothing_to_learn() -> None:
    student, teacher = drawn(4, 41, scale=1.0)
    assert ranking_distillation(2 * teacher - 7, teacher).tolist() == [0.0] * 4
    assert (ranking_distillation(student, teacher) > 0).all()


def test_an_item_far_below_its_place_weighs_more_than_one_near_it() -> None:
    teacher = torch.tensor([[5.0, 1.0, 0.5, 0.0, -1.0]])
    near = ranking_distillation(torch.tensor([[0.0, 1.0, -1.0, -1.0, -1.0]]), teacher, top=1)
    far = ranking_distillation(torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0]]), teacher, top=1)
    assert far.item() / near.item() == pytest.approx(math.tanh(0.4) / math.tanh(0.1), rel=1e-5)


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(ranking_distillation, *drawn(3, 5))
    ignores_the_order_of_rows(ranking_distillation, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(ranking_distillation)


@pytest.mark.parametrize("setting", [{"top": 0}, {"sampled": 0}, {"decay": 0.0}, {"sharpness": 0.0}])
def test_impossible_settings_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))}.*{next(iter(setting.values()))}"):
        RankingDistillation(**setting)  # type: ignore[arg-type]
