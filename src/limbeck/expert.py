"""Experts: small networks from a student's states to its teacher's, of which a gate chooses by the latter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.projection import by_place, check_alike, resized, width


class Experts(nn.Module):
    """As many two-layer networks, mixed by a gate that reads the teacher's states.

    Rows of one kind come to share an expert, so that none must suit all of them. The gate's noise is drawn once
    a step for all rows: a row's loss does not hang on its place in the batch.

    Args:
        student, teacher: shapes of the states: (B, D), (B, T, D) or (B, C, H, W).
        count: of experts, E.

    Source: Kang et al. 2020 (DE-RRD), section 4.1, whose noise is drawn for each row.
    """

    temperature: float = 1.0
    """Of the gate's choice; near 0 a row goes through one expert alone."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int], *, count: int) -> None:
        super().__init__()
        check_alike(student, teacher)
        mine, theirs = width(student), width(teacher)
        middle = (mine + theirs) // 2
        self.count = count
        self.enter = nn.Linear(mine, count * middle)
        self.leave = nn.Linear(count * middle, theirs, bias=False)
        nn.init.uniform_(self.leave.weight, -(middle**-0.5), middle**-0.5)  # as wide as one expert's would be
        self.shift = nn.Parameter(torch.zeros(count, theirs))
        self.gate = nn.Linear(theirs, count)

    def forward(self, states: Tensor, teacher: Tensor) -> Tensor:
        """What the chosen experts make of the student's states, (B, places, teacher's width)."""
        wide = resized(states, teacher) if states.ndim == 4 else states
        mine, theirs = by_place(wide).to(self.shift.dtype), by_place(teacher.detach()).to(self.shift.dtype)
        noise = -torch.empty(self.count, device=mine.device).exponential_().clamp(min=1e-30).log()
        share = torch.softmax((torch.log_softmax(self.gate(theirs), -1) + noise) / self.temperature, -1)
        inner = torch.relu(self.enter(mine)).reshape(*share.shape, -1) * share.unsqueeze(-1)
        mixed: Tensor = self.leave(inner.flatten(-2)) + share @ self.shift
        return mixed

    def group(self, teacher: Tensor) -> Tensor:
        """The expert that suits each row best, (B,), by the mean over its places."""
        chosen: Tensor = self.gate(by_place(teacher.detach()).to(self.shift.dtype)).mean(1).argmax(1)
        return chosen
