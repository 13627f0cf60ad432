"""Robust soft labels: the teacher's answer to the clean row is right for it, attacked or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.divergence import forward_kl
from limbeck.setting import share
from limbeck.term import RowTerm


def rslad(clean: Tensor, attacked: Tensor, teacher: Tensor, *, attacked_share: float = 5 / 6) -> Tensor:
    """The sum a KL(p || softmax(student(x + d))) + (1 - a) KL(p || softmax(student(x))), p = softmax(teacher(x)).

    Args:
        clean: the student's raw logits on the rows as they are, (B, C).
        attacked: its raw logits on attacked rows, x + d, (B, C).
        teacher: raw logits of p on the rows as they are, (B, C); -inf is a class the teacher rules out; no
            gradient reaches them. A teacher that is robust itself teaches best.
        attacked_share: a, in [0, 1].

    Returns:
        (B,), nats.

    Source: Zi et al. 2021 (RSLAD), with a of the authors' code, T = 1 and no label anywhere. Their code
    takes the mean over classes too, ten or a hundred times less. They attack with 10 steps of 2/255 against p
    itself, within 8/255.

    >>> round(rslad(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[0.0, -torch.inf]])).item(), 4)
    0.6931
    """
    return attacked_share * forward_kl(attacked, teacher) + (1 - attacked_share) * forward_kl(clean, teacher)


class Rslad(RowTerm):
    """For a student that must withstand attacks, from a robust teacher; unlike `ard` it needs no labels.

    | reads | from |
    |---|---|
    | `logits` (B, C) | student, teacher |
    | `attacked` (B, C) | student |

    Args:
        attacked_share: of the attacked rows' part, between 0 and 1; the rest is that of clean rows.
        attacked: the name of the student's logits on attacked rows.
        signal: the name of the logits on clean rows.
    """

    group: ClassVar[str] = "robust"
    paper: ClassVar[str] = "Zi et al. 2021"

    def __init__(self, *, attacked_share: float = 5 / 6, attacked: str = "attacked", signal: str = "logits") -> None:
        super().__init__()
        self.attacked_share = share("attacked_share", attacked_share)
        self.attacked = attacked
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        three = student[self.signal], student[self.attacked], teacher[self.signal]
        return rslad(*three, attacked_share=self.attacked_share)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """The teacher's distribution (B, C)."""
        return torch.softmax(teacher[self.signal].float(), 1) if self.signal in teacher else None
