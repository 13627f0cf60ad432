"""Distillation experts: a gate sends rows of one kind through one map from the student's states to the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from limbeck.expert import Experts
from limbeck.projection import by_place
from limbeck.setting import above_zero, one_or_more
from limbeck.taps import HIDDEN
from limbeck.term import HiddenRowTerm


def distillation_experts(student: Tensor, teacher: Tensor) -> Tensor:
    """||t - sum_e a_e E_e(s)||^2, summed over widths.

    Args:
        student: what the experts make of the student's states, (B, places, D).
        teacher: states, (B, D), (B, T, D) or (B, C, H, W); no gradient reaches them.

    Returns:
        (B, places), squared units of the states.

    Source: Kang et al. 2020 (DE-RRD), equation 4.

    >>> import torch
    >>> distillation_experts(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[0.0, 0.0]])).tolist()
    [[10.0]]
    """
    return (student.float() - by_place(teacher.detach()).float()).square().sum(2)


class DistillationExperts(HiddenRowTerm):
    """For rankers: what the teacher's user and item states know beyond its order; beside `relaxed_ranking`.

    One map for all, `fit_net`, mixes what kinds of users have in common; where states are few, prefer it.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |

    Args:
        experts: how many.
        gate_temperature: of the gate's choice; near 0 a row goes through one expert alone. The source brings it
            down from 1 to that while it trains: schedule it.
    """

    group: ClassVar[str] = "ranking"
    paper: ClassVar[str] = "Kang et al. 2020"

    def __init__(
        self,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        experts: int = 30,
        gate_temperature: float = 1.0,
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.experts = one_or_more("experts", experts)
        self.gate_temperature = above_zero("gate_temperature", gate_temperature)

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Experts for each pair."""
        names = zip(self.student_taps, self.teacher_taps, strict=True)
        shapes = [(student[HIDDEN + mine].shape, teacher[HIDDEN + theirs].shape) for mine, theirs in names]
        self.projections = nn.ModuleList([Experts(*both, count=self.experts) for both in shapes])

    def pairs(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(what the experts make of the student's states, the teacher's)."""
        for experts in self.projections:
            if isinstance(experts, Experts):
                experts.temperature = self.gate_temperature
        return super().pairs(student, teacher)

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared units a place."""
        return distillation_experts(student, teacher)
