"""Correlation congruence: a Gaussian kernel of the rows that is the teacher's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UserError
from limbeck.setting import above_zero
from limbeck.term import HiddenTerm


def correlation_congruence(student: Tensor, teacher: Tensor, *, gamma: float = 0.4, order: int = 2) -> Tensor:
    """(K(student) - K(teacher))^2, K = exp(-gamma |x - y|^2) of directions, to a Taylor series' first terms.

    Args:
        student: states, (B, ...), of any width.
        teacher: states, (B, ...); no gradient reaches them.
        gamma: of the kernel, above 0; higher sees only near rows.
        order: the highest power of the cosine.

    Returns:
        Scalar, mean over B x B pairs.

    Source: Peng et al. 2019, the Gaussian kernel with its defaults, over states of length 1. The loss of that
    name in Tian et al. 2020 multiplies neighbouring rows' differences instead, and needs equal widths.

    >>> apart, alike = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    >>> round(correlation_congruence(apart, alike, order=1).item(), 4)  # (0.8 e^-0.8)^2 / 2
    0.0646
    """
    mine, theirs = (_kernel(states, gamma, order) for states in (student, teacher.detach()))
    return (mine - theirs).square().mean()


def _kernel(states: Tensor, gamma: float, order: int) -> Tensor:
    directions = functional.normalize(states.float().flatten(1), dim=1)
    cosine = directions @ directions.T
    factors = [math.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power) for power in range(order + 1)]
    series = torch.full_like(cosine, factors[-1]) if order == 0 else factors[-1] * cosine + factors[-2]
    for factor in factors[-3::-1]:
        series = series * cosine + factor
    return series


class CorrelationCongruence(HiddenTerm):
    """As `similarity_preserving`, with near rows weighing more than far ones. Needs no projection.

    Of texts tap pooled states, for padding would count.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |

    Args:
        gamma: of the kernel, above 0; higher sees only near rows.
        order: of the Taylor series, 1 or more.
    """

    group: ClassVar[str] = "relation"
    paper: ClassVar[str] = "Peng et al. 2019"
    projected: ClassVar[bool] = False

    def __init__(
        self, *, student: str | Sequence[str], teacher: str | Sequence[str], gamma: float = 0.4, order: int = 2
    ) -> None:
        super().__init__(student=student, teacher=teacher)
        self.gamma = above_zero("gamma", gamma)
        if order < 1:
            raise UserError(f"order is {order}; it must be 1 or more")
        self.order = order

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, summed over pairs of parts."""
        both = self.pairs(student, teacher)
        return torch.stack([correlation_congruence(*one, gamma=self.gamma, order=self.order) for one in both]).sum()
