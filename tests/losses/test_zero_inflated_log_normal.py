import math

import pytest
import torch
from scipy.stats import lognorm
from torch import Tensor

from limbeck.losses.zero_inflated_log_normal import ZeroInflatedLogNormal, zero_inflated_log_normal
from tests.losses import laws


def naive(student: Tensor, truth: Tensor) -> list[float]:
    losses = []
    for (odds, level, spread), y in zip(student.tolist(), truth.tolist(), strict=True):
        p = 1 / (1 + math.exp(-odds))
        if y == 0:
            losses.append(-math.log(1 - p))
        else:
            gap = (math.log(y) - level) / math.exp(spread)
            losses.append(-math.log(p) + spread + 0.5 * gap**2)
    return losses


def wanted(rows: int) -> Tensor:
    """Half of them 0; powers of 2, which no format rounds."""
    return torch.tensor([0.0 if i % 2 else 2.0 ** (i % 5) for i in range(rows)])


@pytest.mark.parametrize("rows", [1, 3, 41])
def test_equal_to_a_naive_sum(rows: int) -> None:
    laws.equals_naive(zero_inflated_log_normal, naive, laws.drawn(rows, 3, scale=1.0)[0], wanted(rows), rounding=0.06)


def test_it_is_scipys_likelihood_but_for_what_no_student_can_change() -> None:
    student, truth = laws.drawn(9, 3, scale=0.5)[0].double(), torch.linspace(0.5, 40.0, 9)
    for (odds, level, spread), y, found in zip(
        student.tolist(), truth.tolist(), zero_inflated_log_normal(student, truth).tolist(), strict=True
    ):
        density = lognorm.logpdf(y, math.exp(spread), scale=math.exp(level)) - math.log1p(math.exp(-odds))
        assert found == pytest.approx(-density - math.log(y) - 0.5 * math.log(2 * math.pi), abs=1e-4)


def test_it_is_least_at_the_share_and_the_mean_logarithm() -> None:
    truth = torch.tensor([0.0, 0.0, 0.0, math.e**1.0, math.e**3.0])
    student = torch.tensor([math.log(0.4 / 0.6), 2.0, 0.0]).expand(5, 3).clone().requires_grad_()
    zero_inflated_log_normal(student, truth).mean().backward()
    torch.testing.assert_close(student.grad.sum(0), torch.zeros(3), atol=1e-6, rtol=0)  # type: ignore[union-attr]


def test_only_the_student_learns_rows_may_stand_in_any_order_and_nothing_overflows() -> None:
    student, truth = laws.drawn(3, 3)[0], wanted(3)
    assert laws.gradient(lambda s: zero_inflated_log_normal(s, truth), student).any()
    laws.ignores_the_order_of_rows(zero_inflated_log_normal, student, truth)
    far = zero_inflated_log_normal(torch.tensor([[90.0, 5.0, 1.0], [-90.0, 5.0, 1.0]]), torch.tensor([0.0, 1e12]))
    assert torch.isfinite(far).all()


def test_customers_told_in_one_step_are_those_told_without() -> None:
    student, truth = laws.drawn(4, 3)[0], wanted(4)
    found = ZeroInflatedLogNormal()({"distribution": student[:, None]}, {}, {"values": truth[:, None]})
    assert found.item() == pytest.approx(zero_inflated_log_normal(student, truth).mean().item(), rel=1e-6)
    assert not ZeroInflatedLogNormal.needs_teacher
