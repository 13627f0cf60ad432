import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.hard_quantile import HardQuantile, hard_quantile
from tests.losses import laws

LEVELS = (0.1, 0.5, 0.9)


def naive(student: Tensor, truth: Tensor) -> list[float]:
    losses = []
    for mine, y in zip(student.tolist(), truth.tolist(), strict=True):
        each = [level * (y - s) if y >= s else (1 - level) * (s - y) for level, s in zip(LEVELS, mine, strict=True)]
        losses.append(sum(each) / 3)
    return losses


@pytest.mark.parametrize("rows", [1, 3, 41])
def test_equal_to_a_naive_sum(rows: int) -> None:
    laws.equals_naive(hard_quantile, naive, laws.drawn(rows, 3)[0], laws.drawn(rows, seed=1)[0])


def test_it_is_least_at_the_quantile_of_what_happened() -> None:
    truth = torch.arange(101.0)
    tried = torch.arange(101.0)
    for level in (0.2, 0.5, 0.9):
        losses = [hard_quantile(torch.full((101, 1), s), truth, levels=[level]).mean().item() for s in tried.tolist()]
        assert abs(losses.index(min(losses)) - 100 * level) <= 1


def test_only_the_student_learns_and_rows_may_stand_in_any_order() -> None:
    student, truth = laws.drawn(3, 3)[0], laws.drawn(3, seed=1)[0]
    assert laws.gradient(lambda s: hard_quantile(s, truth), student).any()
    laws.ignores_the_order_of_rows(hard_quantile, student, truth)


def test_steps_that_do_not_count_are_left_out() -> None:
    student, truth = laws.drawn(2, 4, 3)[0], laws.drawn(2, 4, seed=1)[0]
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]])
    found = HardQuantile()({"quantiles": student}, {}, {"values": truth, "mask": mask})
    wanted = hard_quantile(student[mask.bool()], truth[mask.bool()]).mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert not HardQuantile.needs_teacher


def test_impossible_levels_are_refused() -> None:
    with pytest.raises(UserError, match="they must rise"):
        HardQuantile(levels=(0.9, 0.1))
