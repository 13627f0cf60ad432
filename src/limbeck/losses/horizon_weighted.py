"""Horizon-weighted error: a forecast follows its teacher's, and near and far steps need not count alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.setting import above_zero
from limbeck.steps import MASK
from limbeck.term import RowTerm, every


def horizon_weighted(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """sum_h w_h (student_h - teacher_h)^2 / sum_h w_h.

    Args:
        student: forecasts, (B, H) or (B, H, N); of N series at once the squares are averaged.
        teacher: forecasts, of the same shape and unit; no gradient reaches them.
        weights: of the steps, (H,) or (B, H), >= 0.

    Returns:
        (B,), in the unit squared; 0 for a row whose weights are all 0.

    Source: none; a weighted mean of the teacher's part of the usual forecast loss.

    >>> horizon_weighted(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2), torch.tensor([3.0, 1.0])).item()
    1.75
    """
    weights = weights.float().expand(student.shape[:2])
    # Masked before the subtraction: what stands at a step of weight 0 may be NaN.
    there = (weights > 0).view(*weights.shape, *[1] * (student.ndim - 2))
    errors = torch.where(there, student.float(), 0.0) - torch.where(there, teacher.detach().float(), 0.0)
    squares = (errors**2).flatten(2).mean(2) if student.ndim > 2 else errors**2
    total = weights.sum(1)
    return (weights * squares).sum(1) / torch.where(total > 0, total, 1.0)


class HorizonWeighted(RowTerm):
    """For forecasts of which the first steps are what is acted upon; where all count alike take `squared_error`.

    | reads | from |
    |---|---|
    | `values` (B, H) or (B, H, N) | student, teacher |
    | `mask` (B, H), where there are steps that do not count | batch |

    Args:
        decay: each step's weight beside that of the step before: below 1 the near steps count more, above 1 the far.
        signal: the name of the forecasts.
    """

    group: ClassVar[str] = "sequence"
    paper: ClassVar[str] = "our own"

    def __init__(self, *, decay: float = 0.95, signal: str = "values") -> None:
        super().__init__()
        self.decay = above_zero("decay", decay)
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The unit squared a row."""
        mine, theirs = student[self.signal], teacher[self.signal]
        if mine.ndim < 2 or mine.shape != theirs.shape:
            raise UserError(
                f"the student's forecasts have shape {tuple(mine.shape)}, the teacher's {tuple(theirs.shape)}; "
                "both must be (B, H) or (B, H, N), of the same steps"
            )
        weights = (self.decay ** torch.arange(mine.shape[1], device=mine.device)).expand(mine.shape[:2])
        if MASK in batch:
            weights = weights * batch[MASK].bool()
        return horizon_weighted(mine, theirs, weights)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A row without a step that counts does not."""
        return batch[MASK].bool().any(1) if MASK in batch else every(teacher, batch)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's forecasts."""
        return teacher[self.signal].float() if self.signal in teacher else None
