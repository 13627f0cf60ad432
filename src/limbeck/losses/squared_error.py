"""Squared error to the teacher's numbers: values, logits or the worth of actions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.steps import StepTerm, by_step


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over outputs of (student - teacher)^2; outputs that the teacher rules out cost nothing.

    Args:
        student: numbers, (B,) or (B, ...).
        teacher: numbers in the same unit, of the same shape; -inf is an output the teacher rules out; no
            gradient reaches them.

    Returns:
        (B,), in the unit squared.

    Source: of logits, Ba and Caruana 2014, equation 1, without the half; of the worth of actions, Rusu et
    al. 2016 (policy distillation).

    >>> squared_error(torch.tensor([[1.0, 4.0]]), torch.tensor([[1.0, 2.0]])).item()
    2.0
    """
    student, teacher = student.float(), teacher.detach().float()
    # What is ruled out costs nothing; set to 0 on both sides, for the student may have ruled it out too.
    out = teacher == -math.inf
    student, teacher = student.masked_fill(out, 0.0), teacher.masked_fill(out, 0.0)
    errors = functional.mse_loss(student, teacher, reduction="none")
    return errors.flatten(1).mean(1) if errors.ndim > 1 else errors


class SquaredError(StepTerm):
    """For regression and forecasts; and for logits where even unlikely classes must be told apart as in the teacher.

    | reads | from |
    |---|---|
    | `values` (B,) or (B, N) or (B, T, N) | student, teacher |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        signal: the name of the numbers: `values`, or `logits`.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Ba and Caruana 2014"

    def __init__(self, *, signal: str = "values") -> None:
        super().__init__()
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The unit squared a row, over its steps."""
        return by_step(squared_error, [student[self.signal], teacher[self.signal]], batch)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's numbers; none where it rules outputs out."""
        if self.signal not in teacher or torch.isneginf(teacher[self.signal]).any():
            return None
        return teacher[self.signal].float()
