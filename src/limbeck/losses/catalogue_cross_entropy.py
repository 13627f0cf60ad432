"""Cross-entropy over a catalogue: every item a row has is a right answer, equally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.term import RowTerm


def catalogue_cross_entropy(student: Tensor, targets: Tensor) -> Tensor:
    """Mean over a row's targets of -log softmax(student).

    Args:
        student: scores, (B, N).
        targets: positions, (B, L), padded with -1.

    Returns:
        (B,), nats; 0 for a row without a target.

    Source: the multinomial likelihood of Liang et al. 2018 (Mult-VAE, equation 2), divided by the
    number of a row's items so that busy users do not rule the step.

    >>> round(catalogue_cross_entropy(torch.zeros(1, 4), torch.tensor([[2, -1]])).item(), 4)
    1.3863
    """
    there = targets >= 0
    count = there.sum(1)
    logs = torch.log_softmax(student.float(), 1).gather(1, targets.clamp(min=0))
    return -(logs * there).sum(1) / count.clamp(min=1)


class CatalogueCrossEntropy(RowTerm):
    """The hard loss of recommendation.

    | reads | from |
    |---|---|
    | `scores` (B, N) | student |
    | `targets` (B, L) positions, padded with -1 | batch |
    """

    paper: ClassVar[str] = "Liang et al. 2018"
    needs_teacher = False

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return catalogue_cross_entropy(student["scores"], batch["targets"])

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Rows without a target do not count."""
        return (batch["targets"] >= 0).any(1)

    def target(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
        """Multi-hot targets, (B, N); `outputs` in the batch says how many items there are."""
        targets, items = batch["targets"], int(batch["outputs"][0])
        hot = torch.zeros(len(targets), items + 1)
        return hot.scatter(1, targets.where(targets >= 0, items), 1.0)[:, :items]
