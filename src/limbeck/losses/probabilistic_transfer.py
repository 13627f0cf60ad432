"""Probabilistic knowledge transfer: each row has the same likely neighbours as for the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.term import HiddenTerm

EPSILON = 1e-7
"""Added to both probabilities, as the authors' code does."""


def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(p || q) / B, p and q proportional, along a row, to (1 + cosine) / 2 of every two rows.

    Args:
        student: states, (B, ...), of any width.
        teacher: states, (B, ...), which give p; no gradient reaches them.

    Returns:
        Scalar, nats, mean over B x B pairs: B times less than the mean over rows.

    Source: Passalis and Tefas 2018, with the cosine kernel and the mean over pairs of their code, which the
    usual weight of 30000 supposes.

    >>> apart, alike = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    >>> round(probabilistic_transfer(apart, alike).item(), 4)  # (log(3/4) + log(3/2)) / 4
    0.0294
    """
    q, p = _neighbours(student), _neighbours(teacher.detach())
    return (p * ((p + EPSILON) / (q + EPSILON)).log()).mean()


def _neighbours(states: Tensor) -> Tensor:
    directions = functional.normalize(states.float().flatten(1), dim=1)
    kernel = (1 + directions @ directions.T).clamp(min=0)  # twice it, which the sum divides away
    return kernel / kernel.sum(1, keepdim=True)


class ProbabilisticTransfer(HiddenTerm):
    """For embeddings that are compared by cosine, where the whole neighbourhood counts; usual weight 30000.

    `relational` also keeps distances; `queue_kl` looks at many more neighbours than a batch has. Needs no
    projection. Of texts tap pooled states, for padding would count.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    """

    group: ClassVar[str] = "relation"
    paper: ClassVar[str] = "Passalis and Tefas 2018"
    projected: ClassVar[bool] = False

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, summed over pairs of parts."""
        return torch.stack([probabilistic_transfer(*both) for both in self.pairs(student, teacher)]).sum()
