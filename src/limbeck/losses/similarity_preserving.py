"""Similarity preserving: rows that the teacher finds alike, the student does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.term import HiddenTerm


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """||G(student) - G(teacher)||^2 / B^2, G the products of all rows with one another, its rows of length 1.

    Args:
        student: states, (B, ...), of any width.
        teacher: states, (B, ...); no gradient reaches them.

    Returns:
        Scalar, mean over B x B pairs.

    Source: Tung and Mori 2019, section 3.

    >>> apart, alike = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> round(similarity_preserving(apart, alike).item(), 4)  # (2 (1 - 0.7071)^2 + 2 * 0.5) / 4
    0.2929
    """
    return (_similarities(student) - _similarities(teacher.detach())).square().mean()


def _similarities(states: Tensor) -> Tensor:
    flat = states.float().flatten(1)
    return functional.normalize(flat @ flat.T, dim=1)


class SimilarityPreserving(HiddenTerm):
    """For states whose lengths say something, such as activations of pictures; usual weight 3000.

    By angles alone: `probabilistic_transfer`; by distances too: `relational`. Needs no projection.
    Of texts tap pooled states, for padding would count.

    | reads | from |
    |---|---|
    | `hidden.<path>` (B, D), (B, T, D) or (B, C, H, W) | student, teacher |
    """

    group: ClassVar[str] = "relation"
    paper: ClassVar[str] = "Tung and Mori 2019"
    projected: ClassVar[bool] = False

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Scalar, summed over pairs of parts."""
        return torch.stack([similarity_preserving(*both) for both in self.pairs(student, teacher)]).sum()
