import math
from functools import partial

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.language_model_ranks import LanguageModelRanks, language_model_ranks
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


def naive(
    student: Tensor, teacher: Tensor, top: int = 10, shares: tuple[float, float, float] = (0.3, 0.5, 0.1)
) -> list[float]:
    """Item by item."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        there = [i for i in range(len(t)) if t[i] > -math.inf]
        order, own = (sorted(there, key=lambda i: -x[i]) for x in (t, s))
        first, rest = order[:top], order[top:]
        place = [math.exp(-(k + 1)) for k in range(len(first))]
        sure = [math.exp(t[i]) for i in first]
        agreed = [float(i in own[:top]) for i in first]
        parts = zip(place, sure, agreed, strict=True)
        weight = [shares[0] * a / sum(place) + shares[1] * b / sum(sure) + shares[2] * c for a, b, c in parts]
        wanted = sum(w / sum(weight) * math.log(1 + math.exp(-s[i])) for w, i in zip(weight, first, strict=True))
        rows.append(wanted + sum(math.log(1 + math.exp(s[i])) for i in rest) / max(1, len(rest)))
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shares", [(0.3, 0.5, 0.1), (0.1, 0.2, 0.7)])
def test_equal_to_a_sum_over_items(shape: tuple[int, int], shares: tuple[float, float, float]) -> None:
    student, teacher = apart(*shape, seed=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    settings = {"top": 3, "shares": shares}
    equals_naive(partial(language_model_ranks, sampled=EVERY, **settings), partial(naive, **settings), student, teacher)


def test_items_on_which_both_agree_weigh_more() -> None:
    teacher = torch.tensor([[0.0, 0.0, -9.0, -9.0]])
    student = torch.tensor([[1.0, -1.0, 0.0, 2.0]], requires_grad=True)
    language_model_ranks(student, teacher, top=2, sampled=4, shares=(0.0, 0.5, 0.5)).sum().backward()
    assert student.grad is not None
    pulls = -student.grad[0, :2] / torch.sigmoid(torch.tensor([-1.0, 1.0]))
    assert (pulls[0] / pulls[1]).item() == pytest.approx(0.75 / 0.25, rel=1e-4)


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(language_model_ranks, *drawn(3, 5))
    ignores_the_order_of_rows(language_model_ranks, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(language_model_ranks)


def test_impossible_settings_are_refused() -> None:
    for wrong in (
        {"top": 0},
        {"sampled": 0},
        {"decay": 0.0},
        {"shares": (0.0, 0.0, 0.0)},
        {"shares": (-1.0, 1.0, 1.0)},
    ):
        with pytest.raises(UserError, match=next(iter(wrong))):
            LanguageModelRanks(**wrong)  # type: ignore[arg-type]
