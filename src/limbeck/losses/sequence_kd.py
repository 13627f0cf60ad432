"""Sequence-level distillation: the student learns the texts that its teacher wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from limbeck.errors import UserError
from limbeck.steps import negative_log_likelihood
from limbeck.term import RowTerm


def sequence_kd(student: Tensor, tokens: Tensor) -> Tensor:
    """-log softmax(student) of the teacher's token, summed over the steps that have one.

    Args:
        student: raw logits, (B, T, V); step t answers what comes next.
        tokens: ids of what the teacher says comes next, (B, T), padded with -1.

    Returns:
        (B,), nats, summed over a row's steps.

    Source: Kim and Rush 2016, section 3.2: the teacher's best text stands for its distribution over texts.

    >>> import torch
    >>> round(sequence_kd(torch.zeros(1, 3, 4), torch.tensor([[2, 0, -1]])).item(), 4)  # twice log 4
    2.7726
    """
    if tokens.shape != student.shape[:2]:
        raise UserError(f"the tokens have shape {tuple(tokens.shape)}, the student's steps {tuple(student.shape[:2])}")
    return negative_log_likelihood(student, tokens)


class SequenceKd(RowTerm):
    """For teachers that give texts and no logits, such as one behind a service; with logits prefer `skewed_kl`.

    | reads | from |
    |---|---|
    | `tokens` ids (B, T), padded with -1, of what comes next | teacher |
    | `steps` (B, T, N) | student |

    Args:
        signal: the name of the student's logits.
        tokens: the name of the teacher's tokens.
    """

    group: ClassVar[str] = "language"
    paper: ClassVar[str] = "Kim and Rush 2016"

    def __init__(self, *, signal: str = "steps", tokens: str = "tokens") -> None:
        super().__init__()
        self.signal = signal
        self.tokens = tokens

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row, summed over its steps that have a token."""
        return sequence_kd(student[self.signal], teacher[self.tokens])

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """How many steps of each row have a token."""
        return (teacher[self.tokens] >= 0).sum(1)
