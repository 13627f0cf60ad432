"""Pinball loss: quantiles of what really happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.quantiles import pinball, rising
from limbeck.steps import MASK, by_step, steps_of
from limbeck.term import RowTerm, every


def hard_quantile(student: Tensor, truth: Tensor, *, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> Tensor:
    """The mean over levels l of l (y - s_l) where y is above the quantile s_l, (1 - l) (s_l - y) where below.

    Args:
        student: quantiles, (B, Q).
        truth: y, what happened, (B,), in the same unit.
        levels: rising, in (0, 1).

    Returns:
        (B,), in the quantiles' unit.

    Source: Koenker and Bassett 1978.

    >>> round(hard_quantile(torch.tensor([[1.0]]), torch.tensor([3.0]), levels=[0.5]).item(), 4)
    1.0
    """
    at = torch.tensor(levels, device=student.device)
    return pinball(student.float(), truth.float().unsqueeze(1), at, at.new_ones(1))


class HardQuantile(RowTerm):
    """The hard loss of forecasts that say how sure they are; `quantile` learns the same from a teacher.

    | reads | from |
    |---|---|
    | `quantiles` (B, Q) or (B, T, Q) | student |
    | `values` (B,) or (B, T), what happened | batch |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        levels: of the quantiles, rising between 0 and 1.
        signal: the name of the quantiles.
        truth: the name of what happened.
    """

    needs_teacher = False
    group: ClassVar[str] = "tabular"
    paper: ClassVar[str] = "Koenker and Bassett 1978"

    def __init__(
        self, *, levels: Sequence[float] = (0.1, 0.5, 0.9), signal: str = "quantiles", truth: str = "values"
    ) -> None:
        super().__init__()
        self.levels = rising(levels)
        self.signal = signal
        self.truth = truth

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The unit a row, over its steps."""
        both = [student[self.signal], batch[self.truth]]
        return by_step(lambda s, y: hard_quantile(s, y, levels=self.levels), both, batch)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The steps of each row that count; 1 where all do, or there are none."""
        stepped = MASK in batch and batch[self.truth].ndim > 1
        return steps_of(batch) if stepped else every(teacher, batch)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """What happened, (B,) or (B, T), NaN at steps that do not count."""
        truth = batch[self.truth].float()
        return torch.where(batch[MASK].bool(), truth, torch.nan) if MASK in batch and truth.ndim > 1 else truth
