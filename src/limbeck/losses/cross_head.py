"""Cross-head distillation: what the teacher's head makes of the student's states, beside what it makes of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from limbeck.setting import at_least_zero
from limbeck.slope import sloped, wide
from limbeck.term import RowTerm, every, over_places


def cross_head(student: Tensor, teacher: Tensor, counts: Tensor | None = None, *, focus: float = 1.0) -> Tensor:
    """|sigma(z) - sigma(t)|^focus * BCE(sigma(z), sigma(t)), summed over classes, mean over the boxes that count.

    Args:
        student: class logits, (B, N, C).
        teacher: class logits, (B, N, C); no gradient reaches them.
        counts: above 0 where a box counts, (B, N); none: all do.
        focus: how much more the boxes count on which they disagree, 0 or more.

    Returns:
        (B,), nats; 0 for a picture of which no box counts.

    Source: Wang et al. 2024 (CrossKD), equation 4: quality focal loss with a teacher's chance as the quality.

    >>> round(cross_head(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)).item(), 6)
    0.0
    """
    losses = sloped(partial(_focal, focus=focus), axis=-1)(student, teacher)
    return over_places(losses, counts)


def _focal(student: Tensor, teacher: Tensor, *, focus: float) -> tuple[Tensor, Callable[[], Tensor]]:
    logits = wide(student)
    said, wanted = torch.sigmoid(logits), torch.sigmoid(wide(teacher))
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    apart = said - wanted
    size = apart.abs()
    weight = size if focus == 1 else size.pow(focus)

    def slope() -> Tensor:
        # A root of 0 would have no gradient; below it nothing is lost anyway.
        steep = apart.sign() if focus == 1 else focus * size.clamp(min=1e-12).pow(focus - 1) * apart.sign()
        return (said.addcmul_(said, said, value=-1)).mul_(steep).mul_(entropy).addcmul_(weight, apart)

    return torch.linalg.vecdot(weight, entropy), slope


class CrossHead(RowTerm):
    """For detectors: the student's own head is left to the labels, and its states learn to suit the teacher's.

    The student's module says `crossed`: its states, halfway through its head, sent through the rest of a frozen
    copy of the teacher's. Where it has none, name its own class logits there, and this is plain distillation by
    quality focal loss.

    | reads | from |
    |---|---|
    | `crossed` (B, N, C), class logits by the teacher's head | student |
    | `classes` (B, N, C), class logits | teacher |
    | `inside` (B, N), above 0 for boxes that count, where not all do | batch |

    Args:
        focus: how much more the boxes count on which the two disagree.
        crossed: the name of the student's logits.
        signal: the name of the teacher's.
    """

    group: ClassVar[str] = "detection"
    paper: ClassVar[str] = "Wang et al. 2024"

    def __init__(self, *, focus: float = 1.0, crossed: str = "crossed", signal: str = "classes") -> None:
        super().__init__()
        self.focus = at_least_zero("focus", focus)
        self.crossed = crossed
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return cross_head(student[self.crossed], teacher[self.signal], batch.get("inside"), focus=self.focus)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A picture of which no box counts does not count."""
        return (batch["inside"] > 0).any(1) if "inside" in batch else every(teacher, batch)
