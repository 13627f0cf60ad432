"""Quantile distillation: the student's quantiles are those of its teacher's distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.quantiles import masses_of, pinball, rising
from limbeck.steps import StepTerm, by_step


def quantile(student: Tensor, teacher: Tensor, *, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> Tensor:
    """Pinball loss of the student's quantiles, the teacher's being outcomes with the mass that each stands for.

    It is least, for each row alone, where both say the same. Over rows that the student cannot tell apart it is
    least at the quantiles of their teacher's distributions put together; a distance between quantiles of one
    level would make it the mean of theirs, too narrow.

    Args:
        student: quantiles, (B, Q).
        teacher: quantiles of the same levels, (B, Q), in the same unit; no gradient reaches them.
        levels: rising, in (0, 1).

    Returns:
        (B,), in the quantiles' unit; above 0 even at its least, unless the teacher is certain.

    Source: Koenker and Bassett 1978; between two sets of quantiles as in Dabney et al. 2018 (QR-DQN,
    without Huber's rounding), where levels are evenly spread and masses equal; masses for any levels are ours.

    >>> round(quantile(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 2.0, 2.0]])).item(), 4)
    0.0667
    """
    at = torch.tensor(levels, device=student.device)
    return pinball(student.float(), teacher.detach().float(), at, masses_of(at))


class Quantile(StepTerm):
    """For forecasts that say how sure they are; beside `hard_quantile`, which learns the same from what happened.

    | reads | from |
    |---|---|
    | `quantiles` (B, Q) or (B, T, Q) | student, teacher |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        levels: of the quantiles, rising between 0 and 1; the same for student and teacher.
        signal: the name of the quantiles.
    """

    group: ClassVar[str] = "tabular"
    paper: ClassVar[str] = "Dabney et al. 2018"

    def __init__(self, *, levels: Sequence[float] = (0.1, 0.5, 0.9), signal: str = "quantiles") -> None:
        super().__init__()
        self.levels = rising(levels)
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The unit a row, over its steps."""
        both = [student[self.signal], teacher[self.signal]]
        return by_step(lambda s, t: quantile(s, t, levels=self.levels), both, batch)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's quantiles, (B, Q)."""
        return teacher[self.signal].float() if self.signal in teacher else None
