"""Pixel KL: the classes of each pixel follow the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from limbeck.divergence import forward_kl
from limbeck.setting import above_zero
from limbeck.term import RowTerm, every, over_places


def pixel_kl(student: Tensor, teacher: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)) over classes, mean over the pixels that count.

    Args:
        student: raw logits, (B, C, H, W).
        teacher: raw logits, (B, C, H, W); -inf is a class the teacher rules out; no gradient reaches them.
        mask: above 0 where a pixel counts, (B, H, W); none: all do.
        temperature: T > 0.

    Returns:
        (B,), nats; 0 for a picture of which no pixel counts.

    Source: Liu et al. 2019 (structured knowledge distillation), equation 1; T as in Hinton et al. 2015.

    >>> import torch
    >>> pixel_kl(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).item()
    0.0
    """
    losses = forward_kl(student.flatten(2), teacher.flatten(2), temperature=temperature, axis=1)
    return over_places(losses, None if mask is None else mask.flatten(1))


class PixelKl(RowTerm):
    """Plain distillation of a segmentation; prefer `channel_wise` where small objects are lost among much ground.

    | reads | from |
    |---|---|
    | `pixels` (B, C, H, W), logits | student, teacher |
    | `mask` (B, H, W), where there are pixels that do not count | batch |

    Args:
        temperature: T, of both.
        signal: the name of the logits.
    """

    group: ClassVar[str] = "detection"
    paper: ClassVar[str] = "Liu et al. 2019"

    def __init__(self, *, temperature: float = 1.0, signal: str = "pixels") -> None:
        super().__init__()
        self.temperature = above_zero("temperature", temperature)
        self.signal = signal

    def rows(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Nats a row."""
        return pixel_kl(student[self.signal], teacher[self.signal], batch.get("mask"), temperature=self.temperature)

    def counts(self, teacher: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """A picture of which no pixel counts does not count."""
        return (batch["mask"] > 0).flatten(1).any(1) if "mask" in batch else every(teacher, batch)
