"""Attention transfer: the student is active at the places where the teacher is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.projection import axis, pooled
from limbeck.term import HiddenRowTerm


def attention(states: Tensor, *, power: float = 2.0) -> Tensor:
    """Where states are active: the mean over widths of |state|^power, normalised over places.

    Args:
        states: (B, T, D) or (B, C, H, W).
        power: 1 or more.

    Returns:
        (B, places), of length 1.
    """
    wide, along = states.float(), axis(states)
    # A sum where the mean is meant, for the length is set to 1.
    active = torch.linalg.vecdot(wide, wide, dim=along) if power == 2 else wide.abs().pow(power).sum(along)
    return functional.normalize(active.flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor, *, power: float = 2.0) -> Tensor:
    """(attention(student) - attention(teacher))^2, a mean over places.

    Args:
        student: states (B, T, D) or (B, C, H, W), of any width.
        teacher: states of as many places, or pictures of another size, the larger being averaged down to the
            smaller; no gradient reaches them.
        power: p of |state|^p; higher looks at the most active places.

    Returns:
        (B,), in [0, 2 / places].

    Source: Zagoruyko and Komodakis 2017, equation 2, with the mean of their code in place of the norm, as the
    usual weight of 1000 supposes.

    >>> import torch
    >>> here, there = torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[0.0], [5.0]]])
    >>> attention_transfer(here, there).item()
    1.0
    """
    mine, theirs = pooled(student.float(), teacher.detach().float())
    return (attention(mine, power=power) - attention(theirs, power=power)).square().mean(1)


class AttentionTransfer(HiddenRowTerm):
    """Where to look, not what is seen there: it needs no projection, and widths may differ; usual weight 1000.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, T, D) or (B, C, H, W) | student, teacher |

    Args:
        power: p of |state|^p, 1 or more.
    """

    group: ClassVar[str] = "feature"
    paper: ClassVar[str] = "Zagoruyko and Komodakis 2017"
    projected: ClassVar[bool] = False
    placed: ClassVar[bool] = True

    def __init__(self, *, student: str | Sequence[str], teacher: str | Sequence[str], power: float = 2.0) -> None:
        super().__init__(student=student, teacher=teacher)
        if not 1 <= power < float("inf"):
            raise UserError(f"power is {power}; it must be 1 or more")
        self.power = power

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared difference a row."""
        return attention_transfer(student, teacher, power=self.power)
