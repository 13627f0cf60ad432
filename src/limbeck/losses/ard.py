"""Adversarially robust distillation: attacked, the student says what its teacher says unattacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from limbeck.divergence import forward_kl
from limbeck.setting import above_zero
from limbeck.term import RowTerm


def ard(attacked: Tensor, teacher: Tensor, *, temperature: float = 30.0) -> Tensor:
    """T^2 * KL(softmax(teacher(x) / T) || softmax(student(x + d) / T)), x + d the row as attacked.

    Args:
        attacked: the student's raw logits on attacked rows, (B, C).
        teacher: raw logits on the rows as they are, (B, C); -inf is a class the teacher rules out; no gradient
            reaches them.
        temperature: T > 0.

    Returns:
        (B,), nats.

    Source: Goldblum et al. 2020 (ARD), with T of the authors' code. Their second part, cross-entropy
    of the student's logits on clean rows, is the objective's hard loss; they give it 0 of the weight. They
    attack with 10 steps of 2/255 against the labels, within 8/255.

    >>> import torch
    >>> ard(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 4.0]])).item()
    0.0
    """
    return forward_kl(attacked, teacher, temperature=temperature)


class Ard(RowTerm):
    """For a student that must withstand attacks, with labels for the rest; without labels prefer `rslad`.

    | reads | from |
    |---|---|
    | `attacked` (B, C) | student |
    | `logits` (B, C) | teacher |

    Args:
        temperature: T, of both.
        attacked: the name of the student's logits on attacked rows.
        signal: the name of the teacher's logits, on clean rows.
    """

    group: ClassVar[str] = "robust"
    paper: ClassVar[str] = "Goldblum et al. 2020"

    def __init__(self, *, temperature: float = 30.0, attacked: str = "attacked", signal: str = "logits") -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        self.attacked = attacked
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return ard(student[self.attacked], teacher[self.signal], temperature=self.temperature)
