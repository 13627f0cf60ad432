import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.distillation_experts import DistillationExperts, distillation_experts
from limbeck.testing import check_loss
from tests.losses.laws import drawn, equals_naive, ignores_the_order_of_rows, only_the_student_learns

TAPPED = {"student": "user", "teacher": "tower.user"}


def naive(student: Tensor, teacher: Tensor) -> list[list[float]]:
    """Width by width."""
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    return [[sum((a - b) ** 2 for a, b in zip(*both, strict=True)) for both in zip(s, t, strict=True)] for s, t in rows]


@pytest.mark.parametrize("shape", [(3, 1, 5), (2, 4, 41)])
def test_equal_to_a_sum_over_widths(shape: tuple[int, ...]) -> None:
    equals_naive(distillation_experts, naive, *drawn(*shape))


def test_only_the_student_learns_and_the_order_of_rows_does_not_matter() -> None:
    only_the_student_learns(distillation_experts, *drawn(3, 2, 5))
    ignores_the_order_of_rows(distillation_experts, *drawn(6, 2, 5))


def test_experts_and_gate_learn_until_rows_of_two_kinds_fit() -> None:
    torch.manual_seed(0)
    student = torch.randn(64, 4)
    kind = torch.arange(64) % 2
    maps = torch.randn(2, 4, 6)
    teacher = torch.einsum("bi,bij->bj", student, maps[kind]) + 5 * (2 * kind - 1).unsqueeze(1)
    term = DistillationExperts(**TAPPED, experts=4)
    said = {"hidden.user": student}, {"hidden.tower.user": teacher}
    term.size(*said, {})
    optimizer = torch.optim.Adam(term.parameters(), 0.02)
    losses = []
    for step in range(150):
        term.gate_temperature = 1 - 0.9 * step / 150
        optimizer.zero_grad()
        loss = term(*said, {})
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert all(p.grad is not None for p in term.parameters())


def test_it_keeps_the_contract_and_impossible_settings_are_refused() -> None:
    check_loss(DistillationExperts(**TAPPED, experts=3))
    with pytest.raises(UserError, match="experts is 0"):
        DistillationExperts(**TAPPED, experts=0)
    with pytest.raises(UserError, match="gate_temperature is 0"):
        DistillationExperts(**TAPPED, gate_temperature=0.0)
