"""Inter-channel correlation: the student's channels go together as the teacher's do."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.projection import by_place
from limbeck.term import HiddenRowTerm


def inter_channel(student: Tensor, teacher: Tensor) -> Tensor:
    """||G(student) - G(teacher)||^2 / D, G the products of all channels over places, its rows of length 1.

    Args:
        student: states (B, T, D) or (B, C, H, W), as wide as the teacher's.
        teacher: states; no gradient reaches them; places may differ.

    Returns:
        (B,), in [0, 4].

    Source: Liu et al. 2021 (ICKD), with the normalisation and the divisor of their code.

    >>> import torch
    >>> apart, alike = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    >>> round(inter_channel(apart, alike).item(), 4)  # 2 ((1 - 0.7071)^2 + 0.5) / 2
    0.5858
    """
    return (_together(student) - _together(teacher.detach())).square().sum(2).mean(1)


def _together(states: Tensor) -> Tensor:
    placed = by_place(states).float()
    return functional.normalize(torch.bmm(placed.transpose(1, 2), placed), dim=2)


class InterChannel(HiddenRowTerm):
    """Within a row what `similarity_preserving` is between rows: it does not depend on the batch.

    Costs memory for B x D^2 numbers, D the teacher's width.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, T, D) or (B, C, H, W) | student, teacher |
    """

    group: ClassVar[str] = "relation"
    paper: ClassVar[str] = "Liu et al. 2021"
    placed: ClassVar[bool] = True

    def pair(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared difference a row."""
        return inter_channel(student, teacher)
