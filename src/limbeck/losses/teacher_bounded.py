"""Teacher-bounded regression: the truth is learnt only where the student is not yet better than its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.setting import at_least_zero
from limbeck.steps import MASK, by_step, steps_of
from limbeck.term import RowTerm, every


def teacher_bounded(student: Tensor, teacher: Tensor, truth: Tensor, *, margin: float = 0.0) -> Tensor:
    """(student - truth)^2 where (student - truth)^2 + margin > (teacher - truth)^2, else 0; each a mean over outputs.

    Args:
        student: numbers, (B,) or (B, N).
        teacher: numbers, of the same shape; no gradient reaches them.
        truth: numbers, of the same shape and unit.
        margin: by how much the student must be better than its teacher before it is let off, in the unit squared.

    Returns:
        (B,), in the unit squared.

    Source: Chen et al. 2017 (Learning Efficient Object Detection Models with Knowledge Distillation),
    where squares are summed over a box's four numbers; a weight of 0.5 beside the hard loss is theirs.

    >>> student, teacher, truth = torch.tensor([2.0, 0.5]), torch.tensor([1.0, 1.0]), torch.zeros(2)
    >>> teacher_bounded(student, teacher, truth).tolist()
    [4.0, 0.0]
    """
    mine, theirs = (_error(x.float(), truth.float()) for x in (student, teacher.detach()))
    return torch.where(mine + margin > theirs, mine, 0.0)


def _error(said: Tensor, truth: Tensor) -> Tensor:
    squares = (said - truth) ** 2
    return squares.flatten(1).mean(1) if squares.ndim > 1 else squares


class TeacherBounded(RowTerm):
    """For regression with teachers that may be far off: their numbers are a bar to clear, never a target.

    | reads | from |
    |---|---|
    | `values` (B,) or (B, N) or (B, T, N) | student, teacher |
    | `values` (B,) or (B, N) or (B, T, N), the truth | batch |
    | `mask` (B, T), where there are steps that do not count | batch |

    Args:
        margin: by how much the student must be better before it is let off, in the unit squared.
        signal: the name of student's and teacher's numbers.
        truth: the name of the truth.
    """

    group: ClassVar[str] = "response"
    paper: ClassVar[str] = "Chen et al. 2017"

    def __init__(self, *, margin: float = 0.0, signal: str = "values", truth: str = "values") -> None:
        super().__init__()
        self.margin = at_least_zero("margin", margin)
        self.signal = signal
        self.truth = truth

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The unit squared a row, over its steps."""
        three = [student[self.signal], teacher[self.signal], batch[self.truth]]
        return by_step(lambda s, t, y: teacher_bounded(s, t, y, margin=self.margin), three, batch)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The steps of each row that count; 1 where all do, or there are none."""
        stepped = MASK in batch and batch[self.truth].ndim > 2
        return steps_of(batch) if stepped else every(teacher, batch)
