import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.pairwise_hinge import PairwiseHinge, pairwise_hinge
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


def naive(student: Tensor, teacher: Tensor, top: int = 20, scale: float = 1.0) -> list[float]:
    """Pair by pair."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        order = sorted((i for i in range(len(t)) if t[i] > -math.inf), key=lambda i: -t[i])
        pairs = [(i, j) for place, i in enumerate(order[:top]) for j in order[place + 1 :]]
        short = [max(0.0, scale * (t[i] - t[j]) - (s[i] - s[j])) for i, j in pairs]
        rows.append(sum(short) / len(short) if short else 0.0)
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_equal_to_a_sum_over_pairs(shape: tuple[int, int], scale: float) -> None:
    (student,), teacher = drawn(*shape, count=1), apart(*shape)
    teacher[0, 1:3] = -math.inf
    equals_naive(partial(pairwise_hinge, sampled=EVERY, scale=scale), partial(naive, scale=scale), student, teacher)


@given(st.integers(0, 10**6), st.floats(1.0, 5.0))
def test_a_student_that_keeps_items_further_apart_loses_nothing(seed: int, times: float) -> None:
    (teacher,) = drawn(4, 9, seed=seed, count=1)
    assert pairwise_hinge(times * teacher, teacher).tolist() == pytest.approx([0.0] * 4, abs=1e-5)
    assert (pairwise_hinge(-teacher, teacher) > 0).all()


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(pairwise_hinge, *drawn(3, 5))
    ignores_the_order_of_rows(pairwise_hinge, *drawn(6, 9))


def test_extremes_stay_finite() -> None:
    stays_finite(pairwise_hinge)


def test_sampling_the_others_is_right_on_average() -> None:
    torch.manual_seed(0)
    student, teacher = drawn(1, 41)
    many = partial(pairwise_hinge, top=1, sampled=8)(student.repeat(4000, 1), teacher.repeat(4000, 1))
    assert many.mean().item() == pytest.approx(naive(student, teacher, top=1)[0], rel=0.02)


@pytest.mark.parametrize("setting", [{"top": 0}, {"sampled": 0}, {"scale": 0.0}])
def test_impossible_settings_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))}.*{next(iter(setting.values()))}"):
        PairwiseHinge(**setting)  # type: ignore[arg-type]
