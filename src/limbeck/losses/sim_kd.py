"""SimKD's loss: the student's last states become what the teacher's classifier is used to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from limbeck.projection import axis, check_alike, resized, width
from limbeck.setting import above_zero
from limbeck.taps import HIDDEN
from limbeck.term import HiddenRowTerm


def sim_kd(student: Tensor, teacher: Tensor) -> Tensor:
    """(student - teacher)^2, a mean over places and widths.

    Args:
        student: states in the teacher's shape: (B, D), (B, T, D) or (B, C, H, W).
        teacher: what its classifier reads; no gradient reaches it.

    Returns:
        (B, places), squared units of the states.

    Source: Chen et al. 2022 (CVPR), the alignment loss of section 3.

    >>> import torch
    >>> sim_kd(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]])).tolist()
    [[5.0]]
    """
    apart = functional.mse_loss(student.float(), teacher.detach().float(), reduction="none")
    return apart.mean(axis(apart)).reshape(len(apart), -1)


class _Bottleneck(nn.Module):
    """To the teacher's width by way of a smaller one, of which pictures also see the neighbouring points."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int], *, factor: int) -> None:
        super().__init__()
        check_alike(student, teacher)
        self.wide = len(teacher) == 4
        mine, theirs = width(student), width(teacher)
        middle = max(theirs // factor, 1)
        if self.wide:
            layers = [nn.Conv2d(mine, middle, 1), nn.Conv2d(middle, middle, 3, padding=1), nn.Conv2d(middle, theirs, 1)]
            self.map = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        else:
            self.map = nn.Sequential(nn.Linear(mine, middle), nn.ReLU(), nn.Linear(middle, theirs))

    def forward(self, states: Tensor, teacher: Tensor) -> Tensor:
        states = resized(states, teacher) if self.wide else states
        mapped: Tensor = self.map(states.to(next(self.parameters()).dtype))
        return mapped


class SimKd(HiddenRowTerm):
    """`fit_net` on the last states alone, through a richer projection, by which the student borrows a classifier.

    This is the half of SimKD that is a loss, and its only loss: no label is read. The other half is a student: the
    trained projection (`projections` of this term) followed by the teacher's own classifier. Without it, what was
    learnt here only shapes the student's states, and the student needs a loss for its own head. The source's
    batch normalisation is left out, so that what a row loses does not hang on the others of its batch.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    | `mask` (B, T), where tokens are padded | batch |

    Args:
        factor: how many times narrower the projection is in its middle than the teacher.
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Chen et al. 2022"

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], factor: int = 2) -> None:
        super().__init__(student=student, teacher=teacher)
        self.factor = int(above_zero("factor", factor))

    def size(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """One projection a pair."""
        names = zip(self.student_taps, self.teacher_taps, strict=True)
        shapes = [(student[HIDDEN + mine].shape, teacher[HIDDEN + theirs].shape) for mine, theirs in names]
        self.projections = nn.ModuleList([_Bottleneck(*both, factor=self.factor) for both in shapes])

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared units a place."""
        return sim_kd(student, teacher)
