"""Topology distillation: rows that are near to one another in the teacher's space are so in the student's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.expert import Experts
from limbeck.projection import by_place
from limbeck.setting import above_zero, at_least_zero, share
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm


def topology(student: Tensor, teacher: Tensor, group: Tensor | None = None) -> Tensor:
    """(cos(s_i, s_j) - cos(t_i, t_j))^2, mean over pairs of rows.

    With groups, pairs are of rows of one group; and the cosines of each row with the mean of each group are
    compared as well.

    Args:
        student: states, (B, ...), of any width.
        teacher: states, (B, ...); no gradient reaches them.
        group: of each row, (B,); none: all are of one.

    Returns:
        Scalar, in [0, 4], or [0, 8] with groups.

    Source: Kang et al. 2022 (topology distillation), equation 3 (FTD), and 8 with group(P, e) (HTD); means over
    pairs in place of sums, so that the batch's size does not weigh.

    >>> found = topology(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    >>> round(found.item(), 4)  # two of four pairs, 1 apart
    0.5
    """
    mine, theirs = student.float().flatten(1), teacher.detach().float().flatten(1)
    own, others = functional.normalize(mine, dim=1), functional.normalize(theirs, dim=1)
    apart = (own @ own.T - others @ others.T).square()
    if group is None:
        return apart.mean()
    found, place = torch.unique(group, return_inverse=True)
    member = functional.one_hot(place, len(found)).float()
    together = member @ member.T
    middle = (member / member.sum(0)).T
    far = (_cosines(own, middle @ mine) - _cosines(others, middle @ theirs)).square()
    return (apart * together).sum() / together.sum() + far.mean()


def _cosines(units: Tensor, others: Tensor) -> Tensor:
    return units @ functional.normalize(others, dim=1).T


class Topology(HiddenTerm):
    """For rankers: how users, or items, lie to one another. `similarity_preserving` compares products, not cosines.

    Without groups it is FTD. With groups it is HTD, for a student too small to keep all distances at once: only
    rows of one group are compared, and each with what the groups are on average; which group a row is of is
    learnt beside, by experts such as those of `distillation_experts`.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |

    Args:
        groups: how many; 0: none.
        balance: share of the topology in the loss, the rest being that of the experts; without groups 1.
        gate_temperature: of the choice of a group; schedule it from 1 to near 0.
    """

    group: ClassVar[str] = "ranking"
    paper: ClassVar[str] = "Kang et al. 2022"
    projected: ClassVar[bool] = False

    def __init__(
        self,
        *,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        groups: int = 0,
        balance: float = 0.5,
        gate_temperature: float = 1.0,
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.groups = int(at_least_zero("groups", groups))
        self.balance = share("balance", balance)
        self.gate_temperature = above_zero("gate_temperature", gate_temperature)
        self.experts = nn.ModuleList()

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Experts for each pair, where there are groups."""
        if self.groups:
            names = zip(self.student_taps, self.teacher_taps, strict=True)
            shapes = [(student[HIDDEN + mine].shape, teacher[HIDDEN + theirs].shape) for mine, theirs in names]
            self.experts = nn.ModuleList([Experts(*both, count=self.groups) for both in shapes])

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, summed over pairs of parts."""
        both = self.pairs(student, teacher)
        if not self.groups:
            return torch.stack([topology(*pair) for pair in both]).sum()
        losses = []
        for (mine, theirs), experts in zip(both, self.experts, strict=True):
            if not isinstance(experts, Experts):
                continue
            experts.temperature = self.gate_temperature
            fitted = (experts(mine, theirs) - by_place(theirs)).square().sum(2).mean()
            losses.append(self.balance * topology(mine, theirs, experts.group(theirs)) + (1 - self.balance) * fitted)
        return torch.stack(losses).sum()
