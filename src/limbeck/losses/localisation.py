"""Localisation distillation: how sure the teacher is of where each edge of a box lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from limbeck.divergence import forward_kl
from limbeck.setting import above_zero
from limbeck.term import RowTerm, every, over_places


def localisation(
    student: Tensor, teacher: Tensor, counts: Tensor | None = None, *, temperature: float = 10.0
) -> Tensor:
    """T^2 * KL(p || q) over the distances an edge may have, mean over the edges of the boxes that count.

    Args:
        student: logits over distances, (B, N, 4, K).
        teacher: logits over distances, (B, N, 4, K); no gradient reaches them.
        counts: above 0 where a box counts, (B, N); none: all do.
        temperature: T > 0.

    Returns:
        (B,), nats; 0 for a picture of which no box counts.

    Source: Zheng et al. 2022 (LD), equation 3, in which boxes on objects and in the valuable region around them
    count; the published code divides by K, so that its usual weight of 0.25 is 0.25 / K here.

    >>> import torch
    >>> localisation(torch.ones(1, 2, 4, 3), torch.zeros(1, 2, 4, 3)).item()
    0.0
    """
    losses = forward_kl(student, teacher, temperature=temperature).mean(2)
    return over_places(losses, counts)


class Localisation(RowTerm):
    """For detectors that say a box's edges as distributions (GFL, and YOLO from version 8); others take `cross_head`.

    | reads | from |
    |---|---|
    | `edges` (B, N, 4, K), logits over distances | student, teacher |
    | `inside` (B, N), above 0 for boxes that count, where not all do | batch |

    Args:
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "detection"
    paper: ClassVar[str] = "Zheng et al. 2022"

    def __init__(self, *, temperature: float = 10.0, signal: str = "edges") -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        both, inside = (student[self.signal], teacher[self.signal]), batch.get("inside")
        return localisation(*both, inside, temperature=self.temperature)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A picture of which no box counts does not count."""
        return (batch["inside"] > 0).any(1) if "inside" in batch else every(teacher, batch)
