"""Overhaul of feature distillation: states before a ReLU follow the teacher's, wherever the ReLU would show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.projection import along, by_place
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm


def overhaul(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """(student - max(teacher, margin))^2, summed; 0 where neither is above 0 and the student is the lower.

    Args:
        student: states before their ReLU, in the teacher's shape: (B, D), (B, T, D) or (B, C, H, W).
        teacher: states before their ReLU; no gradient reaches them.
        margin: the least that is asked for, of each width, below 0, (D,) or (C,).

    Returns:
        (B,), squared units of the states, a sum over places and widths.

    Source: Heo et al. 2019 (ICCV), the margin ReLU and the partial L2 distance, as in their code.

    >>> import torch
    >>> overhaul(torch.tensor([[-1.0, 0.0]]), torch.tensor([[-9.0, -9.0]]), torch.tensor([-0.5, -0.5])).item()
    0.25
    """
    mine, wanted = student.float(), torch.maximum(teacher.detach().float(), along(margin.detach(), teacher))
    counts = (mine > wanted) | (wanted > 0)
    return (functional.mse_loss(mine, wanted, reduction="none") * counts).flatten(1).sum(1)


def margins(teacher: Tensor) -> Tensor:
    """The mean that a normal variable of each width's mean and deviation has where it is below 0.

    Args:
        teacher: states before their ReLU, (B, D), (B, T, D) or (B, C, H, W).

    Returns:
        (D,) or (C,); -3 deviations where it is hardly ever below 0.

    Source: as Heo et al. 2019 take it from the batch normalisation before the ReLU; here mean and deviation are
    the states' own, for a tap sees no other part's weights.
    """
    states = by_place(teacher).float().flatten(0, 1)
    mean, deviation = states.mean(0), states.std(0, correction=0).clamp(min=1e-6)
    ratio = mean / deviation
    below = torch.special.ndtr(-ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    return torch.where(below > 1e-3, mean - deviation * density / below.clamp(min=1e-3), -3 * deviation)


class Overhaul(HiddenTerm, RowTerm):
    """For nets with ReLUs, tapped before them: what the ReLU will hide is not learnt; usual weight 0.001.

    Name stages from the first to the last: each counts for half of the next. The teacher's margins are taken from
    the dry batch once, and kept. After a ReLU, or in nets without, take `fit_net`.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Heo et al. 2019"

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Projections and margins."""
        super().size(student, teacher, batch)
        for place, path in enumerate(self.teacher_taps):
            self.register_buffer(f"margin{place}", margins(teacher[HIDDEN + path]))

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Squared units a row, of the last stage and less and less of those before."""
        both = self.pairs(student, teacher)
        losses = [overhaul(*pair, self.get_buffer(f"margin{place}")) for place, pair in enumerate(both)]
        return torch.stack([loss / 2 ** (len(both) - 1 - place) for place, loss in enumerate(losses)]).sum(0)
