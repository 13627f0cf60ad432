"""Policy distillation: the student acts as a teacher who mostly takes the action it finds most worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import forward_kl
from limbeck.setting import above_zero
from limbeck.term import RowTerm


def policy_kl(student: Tensor, teacher: Tensor, *, temperature: float = 0.01) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student)).

    Only the teacher is sharpened, so the student's gradient does not hang on T and there is no T^2 to carry.

    Args:
        student: raw logits of its policy, (B, A).
        teacher: the worth of each action, or logits, (B, A); -inf is an action it may not take; no gradient
            reaches them.
        temperature: T > 0, in the unit of the teacher's values.

    Returns:
        (B,), nats.

    Source: Rusu et al. 2016 (policy distillation), with their T for the worth of Atari actions.

    >>> round(policy_kl(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item(), 4)
    0.6931
    """
    return forward_kl(student, teacher.detach().float() / temperature)


class PolicyKl(RowTerm):
    """For teachers who know what actions are worth: near ties stay ties, where `teacher_action` picks one.

    | reads | from |
    |---|---|
    | `values` (B, C) of the actions | teacher |
    | `logits` (B, C) | student |

    Args:
        temperature: T, in the unit of the teacher's values; small, for these differ little between actions.
        student: the name of the student's logits.
        teacher: the name of the teacher's values, or logits.
    """

    group: ClassVar[str] = "policy"
    paper: ClassVar[str] = "Rusu et al. 2016"

    def __init__(self, *, temperature: float = 0.01, student: str = "logits", teacher: str = "values") -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        self.student = student
        self.teacher = teacher

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return policy_kl(student[self.student], teacher[self.teacher], temperature=self.temperature)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's sharpened policy, (B, A)."""
        return torch.softmax(teacher[self.teacher].float() / self.temperature, 1) if self.teacher in teacher else None
