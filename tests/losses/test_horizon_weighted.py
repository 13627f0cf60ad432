import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.horizon_weighted import HorizonWeighted, horizon_weighted
from limbeck.losses.squared_error import squared_error
from tests.losses import laws

WEIGHTS = torch.tensor([3.0, 1.0, 0.0, 2.0, 0.5])


def naive(student: Tensor, teacher: Tensor, weights: Tensor) -> list[float]:
    losses = []
    for mine, theirs in zip(student.reshape(len(student), 5, -1), teacher.reshape(len(teacher), 5, -1), strict=True):
        squares = [
            sum((a - b) ** 2 for a, b in zip(s.tolist(), t.tolist(), strict=True)) / len(s)
            for s, t in zip(mine, theirs, strict=True)
        ]
        losses.append(sum(w * x for w, x in zip(weights.tolist(), squares, strict=True)) / weights.sum().item())
    return losses


@pytest.mark.parametrize("shape", [(3, 5), (41, 5), (3, 5, 2)])
def test_equal_to_a_naive_mean(shape: tuple[int, ...]) -> None:
    laws.equals_naive(horizon_weighted, naive, *laws.drawn(*shape), WEIGHTS)


@given(st.integers(0, 10**6))
def test_equal_weights_make_it_the_squared_error_and_equality_nothing(seed: int) -> None:
    student, teacher = laws.drawn(3, 5, seed=seed)
    torch.testing.assert_close(
        horizon_weighted(student, teacher, torch.full((5,), 7.0)), squared_error(student, teacher)
    )
    assert not horizon_weighted(teacher, teacher, WEIGHTS).any()


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    laws.only_the_student_learns(lambda s, t: horizon_weighted(s, t, WEIGHTS), *laws.drawn(3, 5))
    laws.ignores_the_order_of_rows(lambda s, t: horizon_weighted(s, t, WEIGHTS), *laws.drawn(3, 5))


def test_each_step_counts_less_than_the_one_before_and_masked_ones_not_at_all() -> None:
    student, teacher = laws.drawn(2, 3)
    student[0, 2] = math.nan
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    found = HorizonWeighted(decay=0.5)({"values": student}, {"values": teacher}, {"mask": mask})
    apart = (student - teacher)[0] ** 2
    assert found.item() == pytest.approx(((apart[0] + 0.5 * apart[1]) / 1.5).item(), rel=1e-6)


def test_a_step_of_weight_0_spoils_no_gradient() -> None:
    student, teacher = laws.drawn(2, 5)
    student[:, 2] = math.nan
    found = laws.gradient(lambda s, t: horizon_weighted(s, t, WEIGHTS), student, teacher)
    assert torch.isfinite(found).all()


def test_impossible_decays_and_other_horizons_are_refused() -> None:
    with pytest.raises(UserError, match="decay is 0"):
        HorizonWeighted(decay=0)
    with pytest.raises(UserError, match=r"have shape \(2, 3\), the teacher's \(2, 4\)"):
        HorizonWeighted()({"values": torch.zeros(2, 3)}, {"values": torch.zeros(2, 4)}, {})
