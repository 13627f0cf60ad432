"""The teacher's action: cross-entropy to what the teacher would do, or to the class it would name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from limbeck.term import RowTerm


def teacher_action(student: Tensor, teacher: Tensor) -> Tensor:
    """-log softmax(student) of the teacher's greatest.

    Args:
        student: raw logits, (B, A).
        teacher: values or logits, (B, A); of equal ones the first counts; no gradient reaches them.

    Returns:
        (B,), nats.

    Source: Rusu et al. 2016 (policy distillation), their likelihood loss.

    >>> import torch
    >>> round(teacher_action(torch.zeros(1, 2), torch.tensor([[3.0, 5.0]])).item(), 4)
    0.6931
    """
    return functional.cross_entropy(student.float(), teacher.detach().argmax(1), reduction="none")


class TeacherAction(RowTerm):
    """For teachers of whom only the decision can be trusted, or is known; `policy_kl` also reads how near others were.

    | reads | from |
    |---|---|
    | `values` (B, C) of the actions | teacher |
    | `logits` (B, C) | student |

    Args:
        student: the name of the student's logits.
        teacher: the name of the teacher's values, or logits.
    """

    group: ClassVar[str] = "policy"
    paper: ClassVar[str] = "Rusu et al. 2016"

    def __init__(self, *, student: str = "logits", teacher: str = "values") -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return teacher_action(student[self.student], teacher[self.teacher])

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's action one-hot, (B, A)."""
        if self.teacher not in teacher:
            return None
        values = teacher[self.teacher]
        return functional.one_hot(values.argmax(1), values.shape[1]).float()
