import math
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.item_side_ranking import ItemSideRanking, item_side_ranking
from tests.losses.laws import (
    apart,
    drawn,
    equals_naive,
    ignores_the_order_of_rows,
    only_the_student_learns,
    stays_finite,
)


def naive(student: Tensor, teacher: Tensor, top: int = 40) -> float:
    """Item by item, draw by draw."""
    losses = []
    for item in range(student.shape[1]):
        s, t = student[:, item].tolist(), teacher[:, item].tolist()
        order = sorted((row for row in range(len(t)) if t[row] > -math.inf), key=lambda row: -t[row])
        pools = [order[k:] for k in range(len(order[:top]))]
        if len(order) > 1:
            losses.append(sum(math.log(sum(math.exp(s[row]) for row in pool)) - s[pool[0]] for pool in pools))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("shape", [(3, 5), (41, 3), (7, 41)])
def test_equal_to_a_sum_over_items_and_draws(shape: tuple[int, int]) -> None:
    (student,), teacher = drawn(*shape, count=1), apart(*shape[::-1]).T.clone()
    teacher[0, 1:3] = -math.inf
    equals_naive(item_side_ranking, naive, student, teacher)


def test_an_item_with_one_row_and_a_batch_of_one_have_nothing_to_rank() -> None:
    student = torch.randn(1, 4, requires_grad=True)
    loss = item_side_ranking(student, torch.randn(1, 4))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert not gradient.any()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(item_side_ranking, *drawn(3, 5))
    ignores_the_order_of_rows(item_side_ranking, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(item_side_ranking)


def test_the_term_leaves_out_who_has_an_item_already() -> None:
    student, teacher = drawn(4, 6)
    targets = torch.tensor([[1, 4], [0, -1], [-1, -1], [1, -1]])
    masked = teacher.clone()
    masked[[0, 0, 1, 3], [1, 4, 0, 1]] = -math.inf
    said: Any = {"scores": student}, {"scores": teacher}, {"targets": targets}
    assert ItemSideRanking()(*said).item() == pytest.approx(naive(student.double(), masked), rel=1e-5)
    assert ItemSideRanking(mask_seen=False)(*said).item() == pytest.approx(naive(student.double(), teacher), rel=1e-5)


def test_stored_candidates_and_impossible_settings_are_refused() -> None:
    stored = {"scores.ids": torch.zeros(2, 1, dtype=torch.long), "scores.values": torch.zeros(2, 1)}
    with pytest.raises(UserError, match="needs the teacher's scores of all items"):
        ItemSideRanking(mask_seen=False)({"scores": torch.zeros(2, 3)}, stored, {})
    with pytest.raises(UserError, match="top is 0"):
        ItemSideRanking(top=0)
