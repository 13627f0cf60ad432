"""Knowledge review: each of the student's stages, with what deeper ones know, follows the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.projection import AttentionFusion, check_pictures
from limbeck.setting import above_zero
from limbeck.taps import HIDDEN
from limbeck.term import HiddenTerm, RowTerm

LEVELS = (4, 2, 1)
"""Sizes to which maps are averaged, each counting for half of the one before."""


def review(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared differences of two maps and of their averages over 4 x 4, 2 x 2 and 1 x 1 places, weighed 8 : 4 : 2 : 1.

    Args:
        student: maps in the teacher's shape, (B, C, H, W).
        teacher: maps; no gradient reaches them.

    Returns:
        (B,), squared units of the maps; a weighted mean of means, levels not smaller than H being left out.

    Source: Chen et al. 2021 (CVPR), the hierarchical context loss of section 3.3.

    >>> import torch
    >>> board = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
    >>> round(review(board, torch.zeros(1, 1, 2, 2)).item(), 4)  # (1 + 0 / 2) / (1 + 1/2)
    0.6667
    """
    mine, theirs = student.float(), teacher.detach().float()
    loss, weight, total = _apart(mine, theirs), 1.0, 1.0
    for level in LEVELS:
        if level < mine.shape[2]:
            weight /= 2
            total += weight
            means = (functional.adaptive_avg_pool2d(maps, level) for maps in (mine, theirs))
            loss = loss + weight * _apart(*means)
    return loss / total


def _apart(mine: Tensor, theirs: Tensor) -> Tensor:
    return functional.mse_loss(mine, theirs, reduction="none").flatten(1).mean(1)


class Review(HiddenTerm, RowTerm):
    """For pictures with several stages: the teacher's early stages also teach the student's deep ones.

    Name stages from the first to the last. Costs more than `fit_net` on the same stages, and mostly gains more.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, C, H, W) | student, teacher |

    Args:
        width: in which stages are fused; at most the widest of the student's.
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Chen et al. 2021"
    projected: ClassVar[bool] = False

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], width: int = 512) -> None:
        super().__init__(student=student, teacher=teacher)
        self.width = int(above_zero("width", width))

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """One fusion a stage."""
        names = zip(self.student_taps, self.teacher_taps, strict=True)
        shapes = [(student[HIDDEN + mine].shape, teacher[HIDDEN + theirs].shape) for mine, theirs in names]
        for both in shapes:
            check_pictures(*both)
        middle = min(self.width, max(mine[1] for mine, _ in shapes))
        self.fusions = nn.ModuleList(
            [
                AttentionFusion(mine[1], theirs[1], middle=middle, deepest=stage == len(shapes) - 1)
                for stage, (mine, theirs) in enumerate(shapes)
            ]
        )

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Squared units a row, summed over stages."""
        losses, deeper = [], None
        stages = list(zip(self.pairs(student, teacher), self.fusions, strict=True))
        for (mine, theirs), fuse in reversed(stages):
            fused, deeper = fuse(mine, deeper, theirs)
            losses.append(review(fused, theirs))
        return torch.stack(losses).sum(0)
